"""The text of a trace file: unpacked if it is compressed, and in lines that are not endless."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol

from harness.errors import HarnessError

MOST_BYTES = 4 << 30  # unpacked: a small compressed file can hold an endless one
LONGEST_LINE = 1 << 20  # characters: the prompt of such a line would have 70 million tokens
MOST_LINES = 30_000_000
_TAR = 257  # where a tar archive says that it is one
_FIRST = 1 << 16  # bytes of a file that are looked at to tell what it is

_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
# First bytes of files that are not read -> what they are, and what to do.
_OTHERS = {
    b"BZh": "it is compressed by bzip2; unpack it first (bunzip2)",
    b"\xfd7zXZ\0": "it is compressed by xz; unpack it first (unxz)",
    b"PK\x03\x04": "it is a zip archive or a spreadsheet; unpack it, or save it as CSV",
    b"PAR1": "it is a Parquet file; save it as CSV or JSON lines",
    b"ustar": "it is a tar archive; unpack it first (tar -xf)",
    b"\x89HDF": "it is an HDF5 file; save it as CSV or JSON lines",
    b"\xff\xfe": "it is UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "it is UTF-16 text; save it as UTF-8",
    b"<": "it is a web page or XML; download the file itself",
    b"version https://git-lfs": "it is a pointer of Git LFS, not the file itself; run git lfs pull",
}


def text_lines(stream: BinaryIO, file: str) -> Iterator[str]:
    """The lines of a trace, with their ends. Raises HarnessError for a file that is not UTF-8 text, is cut short, or is
    longer than any trace."""
    source = io.BufferedReader(_Unpacked(stream, file), _FIRST)
    first = source.peek(_FIRST)
    for start, what in _OTHERS.items():
        if first.startswith(start) or first.startswith(start, _TAR):
            raise HarnessError(f"{file}: cannot be read as a trace: {what}.")
    # With newline="" a lone carriage return ends a line too, and the csv module sees line ends inside quotes.
    text = io.TextIOWrapper(source, encoding="utf-8-sig", newline="")
    number = 0
    try:
        while line := text.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise HarnessError(
                    f"{file}: line {number} has more than {LONGEST_LINE:,} characters; a trace has a request a line."
                )
            if number > MOST_LINES:
                raise HarnessError(f"{file}: has more than {MOST_LINES:,} lines; cut it into parts.")
            yield line
    except UnicodeDecodeError:
        raise HarnessError(f"{file}: not a trace: not UTF-8 text.") from None


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Unpacked(io.RawIOBase):
    """The bytes of a file, unpacked if it is compressed."""

    def __init__(self, stream: BinaryIO, file: str) -> None:
        start = stream.read(4)
        stream.seek(0)
        self.file, self.left = file, MOST_BYTES
        self.kind = next((kind for first, kind in _PACKED.items() if start.startswith(first)), "")
        self.source = _source(stream, self.kind)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self.source.read(len(buffer))
        except (EOFError, OSError, zlib.error) as problem:
            if not self.kind:
                raise HarnessError(f"{self.file}: cannot read the trace ({problem}).") from None
            raise HarnessError(f"{self.file}: this {self.kind} file is cut short or damaged.") from None
        self.left -= len(data)
        if self.left < 0:
            raise HarnessError(f"{self.file}: has more than {MOST_BYTES >> 30} GiB of text; cut it into parts.")
        buffer[: len(data)] = data
        return len(data)


def _source(stream: BinaryIO, kind: str) -> _Source:
    if kind == "gzip":
        return gzip.GzipFile(fileobj=stream)
    if kind == "zstd":
        import pyarrow as pa  # half a second, for the few traces that need it

        found: _Source = pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd")
        return found
    return stream
