"""The tensors of a checkpoint, from the headers of its safetensors files alone."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from harness.errors import HarnessError
from harness.visible import visible

HEADER_LIMIT = 100 << 20  # bytes; the safetensors library's own limit for the header
# Bits of an element, by safetensors' names (github.com/huggingface/safetensors, `Dtype`).
_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "C64": 64,
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a checkpoint."""

    name: str
    dtype: str  # as safetensors or GGUF names it
    shape: tuple[int, ...]
    bytes: int


def tensors_of(shards: Sequence[Path]) -> list[Tensor]:
    """Every tensor of the files, each name once: some checkpoints repeat one in two shards. Raises HarnessError if a
    file is not whole."""
    found: dict[str, Tensor] = {}
    for shard in shards:
        for tensor in _tensors_in(shard):
            found.setdefault(tensor.name, tensor)
    if not found:
        raise HarnessError(f"{shards[0]}: holds no tensors.")
    return list(found.values())


def bytes_by_dtype(tensors: Iterable[Tensor]) -> Counter[str]:
    """How many bytes have each dtype."""
    total: Counter[str] = Counter()
    for tensor in tensors:
        total[tensor.dtype] += tensor.bytes
    return total


def _tensors_in(shard: Path) -> list[Tensor]:
    try:
        with shard.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > HEADER_LIMIT:
                raise ValueError("the header's length is implausible")
            header = json.loads(file.read(size).decode("utf-8"), object_pairs_hook=_no_repeats)
        if not isinstance(header, dict):
            raise ValueError("the header is no object")
        entries = (_tensor(name, entry) for name, entry in header.items() if name != "__metadata__")
        tensors = sorted(entries, key=lambda pair: (pair[0], pair[1].bytes))
        end = 0
        for start, tensor in tensors:
            if start != end:
                raise ValueError(f"{visible(tensor.name, 100)} begins at {start}, not where the one before ends, {end}")
            end += tensor.bytes
        if shard.stat().st_size != 8 + size + end:
            raise ValueError(f"{shard.stat().st_size} bytes, expected {8 + size + end}")
    except (OSError, ValueError, RecursionError) as error:
        reason = "its header is nested too deep" if isinstance(error, RecursionError) else visible(str(error))
        raise HarnessError(f"{shard}: not a whole safetensors file ({reason}); copy it again.") from None
    return [tensor for _, tensor in tensors]


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("the header names a tensor twice")
    return found


def _tensor(name: str, entry: Any) -> tuple[int, Tensor]:
    """(where its bytes begin, the tensor). Raises ValueError."""
    shown = visible(name, 100)
    if not isinstance(entry, dict):
        raise ValueError(f"{shown} has no description")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str):
        raise ValueError(f"{shown} has no dtype")
    if not _whole_numbers(shape) or not _whole_numbers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"{shown} has an odd shape or odd offsets")
    size = offsets[1] - offsets[0]
    bits = _BITS.get(dtype)
    if bits is not None and -(-math.prod(shape) * bits // 8) != size:
        raise ValueError(f"{shown} has {size} bytes, but its shape and type need {-(-math.prod(shape) * bits // 8)}")
    return offsets[0], Tensor(name, visible(dtype, 20), tuple(shape), size)


def _whole_numbers(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(one) is int and 0 <= one < 1 << 60 for one in value) and len(value) < 16
