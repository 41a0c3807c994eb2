"""Extracts the body of an HTTP/1.1 response from the raw reads of one exchange."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from harness.driver.spool import Read

SHOWN = 200  # bytes of a broken stream that go into the error


class Malformed(Exception):
    """The bytes do not follow the protocol; the message quotes them."""


def quote(data: bytes | bytearray) -> str:
    """The beginning of some bytes, for an error."""
    return repr(bytes(data[:SHOWN]))


Piece = tuple[bytes, int]  # bytes of the body, and the number of the read that brought them


def body_of(reads: Sequence[Read]) -> tuple[int | None, bool, Iterator[Piece]]:
    """The status code (None: the head is not complete), whether the body is chunked, and the body as received."""
    head = b""
    for at, read in enumerate(reads):
        head += read.data
        end = head.find(b"\r\n\r\n")
        while end >= 0 and head.startswith(b"HTTP/1.1 1"):  # 100 Continue and the like
            head = head[end + 4 :]
            end = head.find(b"\r\n\r\n")
        if end >= 0:
            words = head[:end].split(b"\r\n")[0].split()
            if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
                raise Malformed(f"no HTTP response: {quote(head)}")
            chunked = b"\r\ntransfer-encoding: chunked" in head[:end].lower()
            rest = [(head[end + 4 :], at), *((later.data, i) for i, later in enumerate(reads[at + 1 :], at + 1))]
            return int(words[1]), chunked, iter(rest)
    return None, False, iter(())


def whole(body: Iterable[Piece], chunked: bool) -> bytes:
    feed = Unchunk().feed if chunked else bytes
    return b"".join(feed(data) for data, _ in body)


class Unchunk:
    """Removes the chunk framing from bytes that may be split anywhere."""

    def __init__(self) -> None:
        self.pending = b""
        self.left = 0  # bytes of the current chunk, its closing CR LF included, still to come
        self.ended = False  # the last chunk has come

    @property
    def clean(self) -> bool:
        """Whether the next byte begins a chunk."""
        return not self.left and not self.pending

    def feed(self, data: bytes) -> bytes:
        data, self.pending = self.pending + data, b""
        start, size = 0, len(data)
        out = []
        while start < size:
            if self.left:
                take = min(self.left, size - start)
                # The last two of `left` are the CR LF after the chunk.
                out.append(data[start : start + min(take, max(0, self.left - 2))])
                self.left -= take
                start += take
                continue
            end = data.find(b"\r\n", start)
            if end < 0:
                self.pending = data[start:]
                if len(self.pending) > SHOWN:
                    raise Malformed(f"no chunk size: {quote(self.pending)}")
                break
            line = data[start:end]
            start = end + 2
            if self.ended:
                continue  # trailing fields, and the blank line after them
            if line:
                try:
                    length = int(line.split(b";")[0], 16)
                except ValueError:
                    raise Malformed(f"no chunk size: {quote(line)}") from None
                self.left = length + 2 if length else 0
                self.ended = not length
        return b"".join(out)


def fields_of(reads: Sequence[Read]) -> dict[str, str]:
    """The header of the response, names in lower case; the last of several of one name."""
    start = b"".join(read.data for read in reads[:20])
    while start.startswith(b"HTTP/1.1 1"):  # 100 Continue and the like
        start = start.partition(b"\r\n\r\n")[2]
    lines = start.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    return {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
