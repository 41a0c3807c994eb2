"""Writes bf16 tensors as a safetensors file: 8 bytes of header length, JSON, then the raw values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from harness.model.exact import Bits


def write_safetensors(path: Path, tensors: Mapping[str, Bits]) -> None:
    """Tensors in order of name, so that the file depends on them alone. numpy has no bf16, hence by hand.

    Source of the layout: github.com/huggingface/safetensors, README, "Format"."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name in sorted(tensors):
        end = start + tensors[name].nbytes
        header[name] = {"dtype": "BF16", "shape": tensors[name].shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the values start at a multiple of 8
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(tensors):
            file.write(tensors[name].astype("<u2", copy=False).tobytes())
