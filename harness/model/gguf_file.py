"""A GGUF file's header: its facts and tensors, without the values.

Read here and not by the gguf package, because every count in a header is checked against the file's size first: a
length of 2^62 would otherwise be looped over. Source of the layout: github.com/ggml-org/ggml, docs/gguf.md."""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf

from harness.errors import HarnessError
from harness.model.checkpoint import Tensor
from harness.visible import visible

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)
_MOST_DIMENSIONS = 8


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """`facts`: numbers and texts by key; of an array its length."""

    facts: Mapping[str, int | float | str]
    tensors: tuple[Tensor, ...]

    def number(self, key: str) -> int | None:
        """A whole number; None without."""
        value = self.facts.get(key)
        return value if isinstance(value, int) else None


class BadGguf(HarnessError):
    """This is not a whole GGUF file; the message says why, without the path."""


def read_gguf(path: Path) -> GgufHeader:
    """Raises BadGguf if it is not a whole GGUF file."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _header(_Cursor(data))
    except (OSError, ValueError) as problem:  # also of an empty file
        raise BadGguf(f"not a readable GGUF file ({visible(str(problem))})") from None


class _Cursor:
    """Reads one value after another and never beyond the end."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at, self.size = data, 0, len(data)

    def skip(self, count: int) -> int:
        """Moves on by `count` bytes; returns where they begin."""
        start = self.at
        if count > self.size - start:
            raise ValueError("it ends in the middle")
        self.at += count
        return start

    def number(self, code: str) -> int | float:
        found = struct.unpack_from(f"<{code}", self.data, self.skip(struct.calcsize(f"<{code}")))[0]
        assert isinstance(found, int | float)
        return found

    def whole(self, code: str = "Q") -> int:
        return int(self.number(code))

    def count(self, least: int) -> int:
        """How many of something follow, each of `least` bytes or more."""
        found = self.whole()
        if found * least > self.size - self.at:
            raise ValueError(f"it names {found} entries, more than there is room for")
        return found

    def text(self) -> str:
        length = self.count(1)
        start = self.skip(length)
        return self.data[start : start + min(length, 1 << 16)].decode("utf-8", "replace")


def _header(cursor: _Cursor) -> GgufHeader:
    if cursor.data[:4] != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    cursor.skip(4)
    version = cursor.whole("I")
    if version not in _VERSIONS:
        raise ValueError(f"version {version} of the format, not {' or '.join(map(str, _VERSIONS))}")
    tensor_count, fact_count = cursor.whole(), cursor.whole()
    if 24 * tensor_count + 13 * fact_count > cursor.size:
        raise ValueError("it names more tensors or facts than there is room for")
    facts: dict[str, int | float | str] = {}
    for _ in range(fact_count):
        name = cursor.text()
        facts[name] = _value(cursor, cursor.whole("I"), 0)
    found = [_tensor(cursor) for _ in range(tensor_count)]
    align = facts.get("general.alignment", 32)
    if not isinstance(align, int) or align < 1 or align > 1 << 16:
        raise ValueError("an odd alignment")
    start = -(-cursor.at // align) * align
    if any(start + offset + tensor.bytes > cursor.size for offset, tensor in found):
        raise ValueError("its tensors reach beyond its end; it was cut off")
    if len({tensor.name for _, tensor in found}) != len(found):
        raise ValueError("it names a tensor twice")
    return GgufHeader(facts, tuple(tensor for _, tensor in found))


def _value(cursor: _Cursor, kind: int, depth: int) -> int | float | str:
    """A number or a text; of an array its length."""
    if kind in _NUMBERS:
        return cursor.number(_NUMBERS[kind])
    if kind == _STRING:
        return cursor.text()
    if kind != _ARRAY or depth > 4:
        raise ValueError(f"a value of an unknown type ({kind})")
    inner = cursor.whole("I")
    if inner in _NUMBERS:
        size = struct.calcsize(f"<{_NUMBERS[inner]}")
        length = cursor.count(size)
        cursor.skip(length * size)
        return length
    length = cursor.count(8)
    for _ in range(length):
        if inner == _STRING:
            cursor.skip(cursor.whole())
        else:
            _value(cursor, inner, depth + 1)
    return length


def _tensor(cursor: _Cursor) -> tuple[int, Tensor]:
    """(where its values begin, the tensor)."""
    name, dimensions = cursor.text(), cursor.whole("I")
    if dimensions > _MOST_DIMENSIONS:
        raise ValueError(f"a tensor of {dimensions} dimensions")
    shape = tuple(cursor.whole() for _ in range(dimensions))
    kind = cursor.whole("I")
    offset = cursor.whole()
    try:
        dtype = gguf.GGMLQuantizationType(kind)
        block, size = gguf.GGML_QUANT_SIZES[dtype]
    except (ValueError, KeyError):
        raise ValueError(f"a tensor of an unknown type ({kind})") from None
    return offset, Tensor(name, dtype.name, shape, -(-math.prod(shape) // block) * size)
