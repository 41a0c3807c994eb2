"""Where an HTTP/1.1 response ends (RFC 9112, section 6.3)."""

from __future__ import annotations

import re

from harness.driver.head import HeadReader

# The chunk before it ends in CR LF. Inside an event's text these bytes would be a line with a single 0.
LAST_CHUNK = b"\r\n0\r\n\r\n"
# The same with an extension of the chunk, or with trailer fields, which need not be announced.
_LAST_CHUNK = re.compile(rb"\r\n0+[ \t]*(?:;[^\r\n]*)?\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n]*\r\n)*\r\n")
_TRAILER_BYTES = 4096


class Framing:
    """How far one response has got. While `attentive`, every read must be passed to `ends`; afterwards only reads whose
    last bytes may be LAST_CHUNK or a part of it."""

    __slots__ = ("attentive", "chunked", "excess", "left", "reader", "reusable", "tail", "trailer", "until_close")

    def __init__(self) -> None:
        self.attentive = True
        self.reader: HeadReader | None = HeadReader()  # None once the head has been read
        self.chunked = self.until_close = self.trailer = False
        self.tail = b""
        self.left = 0  # body bytes still to come, if the head says how many
        self.excess = False  # bytes came that are not of this response
        self.reusable = False  # until the head has been read

    def ends(self, before: bytes, data: bytes) -> bool:
        """Whether `data` ends the response; `before`: the bytes before it, at least 6 if there are that many."""
        if self.reader is not None:
            data = self.reader.feed(data)
            if self.reader.head is None:
                return False
            if self._read_head():
                return True  # decoding reports what it was instead
            before = b"\r\n"  # so that LAST_CHUNK matches an empty body too
        if self.trailer:  # fields between the last chunk and the blank line that ends it all
            before = self.tail or before
            self.tail = (before + data)[-_TRAILER_BYTES:]
        if self.chunked:
            return self._has_last_chunk(before[-_TRAILER_BYTES:] + data)
        if self.until_close:
            return False
        self.left -= len(data)
        self.excess |= self.left < 0
        return self.left <= 0

    def _has_last_chunk(self, data: bytes) -> bool:
        if data.endswith(LAST_CHUNK):
            self.excess |= data.find(LAST_CHUNK) < len(data) - len(LAST_CHUNK)
            return True
        if b"\r\n0" not in data or (found := _LAST_CHUNK.search(data)) is None:
            return False
        self.excess |= found.end() < len(data)
        return True

    def _read_head(self) -> bool:
        """Takes over what the head says; whether the response cannot be followed any further."""
        assert self.reader is not None
        head, self.reader = self.reader.head, None
        assert head is not None
        if head.status is None or head.problem is not None:
            return True
        self.reusable, self.chunked, self.until_close = head.reusable, head.chunked, head.until_close
        self.left = head.length or 0
        if self.chunked:
            self.attentive = self.trailer = "trailer" in head.fields
        elif self.until_close:
            self.attentive = False
        return False
