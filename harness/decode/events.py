"""Extracts server-sent events from the bytes of a response's body."""

from __future__ import annotations

from harness.decode.body import Malformed, Piece, quote


def one_event(data: bytes) -> bytes | None:
    """The payload of a read that is exactly one chunk with exactly one event, as nearly all are; None for others."""
    size = data.find(b"\r\n", 0, 10)
    # Line feeds: after the size, two after the event, after the chunk.
    if size > 0 and data[-4:] == b"\n\n\r\n" and data.startswith(b"data:", size + 2) and data.count(b"\n") == 4:
        try:
            if int(data[:size], 16) == len(data) - size - 4:
                return data[size + 7 : -4].strip()
        except ValueError:
            pass
    return None


class Events:
    """Extracts server-sent events from bytes that may be split anywhere.

    WHATWG HTML, section 9.2: lines end in LF or CR LF, `data:` with or without a space, several data lines
    are one payload, a colon first is a comment, a blank line ends the event; so does the end of the stream,
    which the standard would discard but engines use."""

    def __init__(self) -> None:
        self.pending = bytearray()
        self.data: list[bytes] = []
        self.completed = 0  # the read that brought the end of the last data line

    @property
    def clean(self) -> bool:
        """Whether the next byte begins an event."""
        return not self.pending and not self.data

    def feed(self, piece: bytes, at: int) -> list[Piece]:
        """The events that `piece` completes: payload, and the read that completed its last data line."""
        self.pending += piece
        if b"\n" not in piece:
            return []
        *lines, rest = bytes(self.pending).split(b"\n")
        self.pending = bytearray(rest)
        found: list[Piece] = []
        for line in lines:
            line = line.rstrip(b"\r")
            if not line:
                found += self.end()
            elif line.startswith(b"data:"):
                self.data.append(line[5:].removeprefix(b" "))
                self.completed = at
        return found

    def end(self) -> list[Piece]:
        """The unfinished event, if there is one."""
        if not self.data:
            return []
        payload, self.data = b"\n".join(self.data).strip(), []
        return [(payload, self.completed)]

    def close(self) -> list[Piece]:
        """The last event, ended by the end of the stream. Raises Malformed if the event is cut off."""
        if self.pending.startswith(b"data:"):
            raise Malformed(f"cut in mid-event: {quote(self.pending)}")
        return self.end()


def events_of(body: bytes) -> list[bytes]:
    """The payload of every event of a whole stream, without its end mark."""
    events = Events()
    found = [*events.feed(body, 0), *events.close()]
    return [payload for payload, _ in found if payload != b"[DONE]"]
