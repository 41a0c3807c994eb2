"""Extracts the body of an HTTP/1.1 response from the raw reads of one exchange."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from harness.driver.head import Head, HeadReader
from harness.driver.spool import Read

SHOWN = 200  # bytes of a broken stream that go into the error
_ERROR_BYTES = 1 << 20  # of an error body; more is not looked at
_LINE_BYTES = 4096  # the most that a chunk's size with its extension may have
# int() would also take a sign, blanks, underscores and 0x; more than 16 digits are no size of anything.
_CHUNK_SIZE = re.compile(rb"0*([0-9A-Fa-f]{1,16})[ \t]*(?:;.*)?", re.DOTALL)


class Malformed(Exception):
    """The bytes do not follow the protocol; the message quotes them."""


def quote(data: bytes | bytearray) -> str:
    """The beginning of some bytes, for an error."""
    return repr(bytes(data[:SHOWN]))


Piece = tuple[bytes, int]  # bytes of the body, and the number of the read that brought them


def body_of(reads: Sequence[Read]) -> tuple[Head | None, Iterator[Piece]]:
    """The head of the response (None: it is not complete), and what came after it as received."""
    reader = HeadReader()
    for at, read in enumerate(reads):
        rest = reader.feed(read.data)
        if reader.head is None:
            continue
        if reader.head.status is None:
            raise Malformed(_no_http(reader.pending))
        return reader.head, iter([(rest, at), *((later.data, i) for i, later in enumerate(reads[at + 1 :], at + 1))])
    return None, iter(())


def _no_http(data: bytes | bytearray) -> str:
    why = " (TLS: the URL may have to begin with https)" if data[:2] == b"\x15\x03" else ""
    return f"no HTTP response{why}: {quote(data)}"


class Body:
    """Takes the body out of what came after a head; bytes may be split anywhere. `excess`: what came after its end."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.unchunk = Unchunk() if head.chunked else None
        self.left = head.length
        self.excess = b""

    @property
    def ended(self) -> bool:
        """Whether the end has come, as far as the head says where it is."""
        return self.unchunk.over if self.unchunk else self.left == 0

    def feed(self, data: bytes) -> bytes:
        """The bytes of the body in `data`. Raises Malformed."""
        if self.unchunk is not None:
            body = self.unchunk.feed(data)
            self.excess = self.unchunk.excess
            return body
        if self.left is None:
            return data
        body, more = data[: self.left], data[self.left :]
        self.left -= len(body)
        if more:
            self.excess = (self.excess + more)[:SHOWN]
        return body


def beginning(reads: Sequence[Read]) -> bytes:
    """The first bytes of a response's body, as far as it can be read; enough for what an error says."""
    found = bytearray()
    try:
        head, pieces = body_of(reads)
        unchunk = Unchunk() if head and head.chunked else None
        for data, _ in pieces:
            found += unchunk.feed(data) if unchunk else data
            if len(found) > _ERROR_BYTES:
                break
    except Malformed:
        pass
    return bytes(found)


class Unchunk:
    """Removes the chunk framing from bytes that may be split anywhere. Every round of `feed` uses up at least one byte,
    so it always ends."""

    def __init__(self) -> None:
        self.pending = b""
        self.left = 0  # bytes of the current chunk still to come
        self.closing = False  # the CR LF after a chunk is still to come
        self.ended = False  # the last chunk has come
        self.over = False  # and the blank line after its trailer
        self.excess = b""  # what came after that

    @property
    def clean(self) -> bool:
        """Whether the next byte begins a chunk."""
        return not (self.left or self.pending or self.closing or self.ended)

    def feed(self, data: bytes) -> bytes:
        """The content in `data`. Raises Malformed."""
        data, self.pending = self.pending + data, b""
        start, size = 0, len(data)
        out = []
        while start < size:
            if self.left:
                take = min(self.left, size - start)
                out.append(data[start : start + take])
                self.left -= take
                self.closing = not self.left
                start += take
            elif self.over:
                self.excess = (self.excess + data[start:])[:SHOWN]
                break
            else:
                end = data.find(b"\n", start)
                if end < 0:
                    self._keep(data[start:])
                    break
                self._line(data[start:end])
                start = end + 1
        return b"".join(out)

    def _keep(self, line: bytes) -> None:
        if self.closing and line != b"\r":
            raise Malformed(f"a chunk is longer than its size: {quote(line)}")
        if len(line) > _LINE_BYTES or (not self.ended and len(line) > SHOWN and b";" not in line):
            raise Malformed(f"no chunk size: {quote(line)}")
        self.pending = line

    def _line(self, line: bytes) -> None:
        """Takes a line outside of the content: the end of a chunk, a size, or a field after the last chunk."""
        line = line.removesuffix(b"\r")
        if self.closing:
            if line:
                raise Malformed(f"a chunk is longer than its size: {quote(line)}")
            self.closing = False
        elif self.ended:
            self.over = not line
        else:
            found = _CHUNK_SIZE.fullmatch(line)
            if found is None:
                raise Malformed(f"no chunk size: {quote(line)}")
            self.left = int(found[1], 16)
            self.ended = not self.left
