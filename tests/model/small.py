"""A complete checkpoint of a few kilobytes, for tests that read folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from harness.model.safetensors_file import write_safetensors
from harness.model.tiny_tokenizer import vocabulary, write_tokenizer

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 600,
    "max_position_embeddings": 64,
    "torch_dtype": "bfloat16",
}


def write_small(folder: Path) -> None:
    write_tokenizer(folder, vocabulary(600), 64)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    write_safetensors(
        folder / "model.safetensors",
        {"a.weight": np.full((4, 8), 0x3F80, np.uint16), "b.weight": np.full(8, 0x3F80, np.uint16)},
    )
