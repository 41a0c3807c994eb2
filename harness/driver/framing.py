"""Where an HTTP/1.1 response ends (RFC 9112, section 6.3)."""

from __future__ import annotations

# The chunk before it ends in CR LF. Inside an event's text these bytes would be a line with a single 0.
LAST_CHUNK = b"\r\n0\r\n\r\n"
_HEAD_LIMIT_BYTES = 1 << 20
_TRAILER_BYTES = 4096


class Framing:
    """How far one response has got. While `attentive`, every read must be passed to `ends`; afterwards only reads whose
    last bytes may be LAST_CHUNK or a part of it."""

    attentive = True
    head = tail = b""
    headed = chunked = until_close = trailer = False
    left = 0  # body bytes still to come, if the head says how many
    reusable = False  # until the head has been read

    def ends(self, before: bytes, data: bytes) -> bool:
        """Whether `data` ends the response; `before`: the bytes before it, at least 6 if there are that many."""
        if not self.headed:
            self.head += data
            end = self.head.find(b"\r\n\r\n") + 4
            if end < 4:
                return len(self.head) > _HEAD_LIMIT_BYTES  # decoding reports what it was instead
            head, data, self.head = self.head[:end], self.head[end:], b""
            if head.startswith(b"HTTP/1.1 1"):  # 100 Continue and the like: the real head follows
                return self.ends(b"", data)
            self.headed = True
            self._read_head(head.lower())
            before = b"\r\n"  # so that LAST_CHUNK matches an empty body too
        if self.trailer:  # fields between the last chunk and the blank line that ends it all
            self.tail = (self.tail + data)[-_TRAILER_BYTES:]
            return self.tail.endswith(b"\r\n\r\n") and LAST_CHUNK[:-2] in self.tail
        if self.chunked:
            return (before[-6:] + data).endswith(LAST_CHUNK)
        if self.until_close:
            return False
        self.left -= len(data)
        return self.left <= 0

    def _read_head(self, head: bytes) -> None:
        self.reusable = b"\r\nconnection: close" not in head and not head.startswith(b"http/1.0")
        self.chunked = b"\r\ntransfer-encoding: chunked" in head
        at = head.find(b"\r\ncontent-length:")
        if self.chunked:
            self.attentive = self.trailer = b"\r\ntrailer:" in head
        elif at >= 0:
            length = head[at + 17 : head.index(b"\r\n", at + 2)].strip()
            self.left = int(length) if length.isdigit() else 0
        else:
            self.until_close, self.reusable, self.attentive = True, False, False
