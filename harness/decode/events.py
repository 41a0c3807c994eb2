"""Extracts server-sent events from the bytes of a response's body."""

from __future__ import annotations

import re
from typing import NamedTuple

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"
# Events by which servers keep a silent connection open. The first by its name, the others by what they hold.
_PING_NAMES = frozenset({b"ping", b"heartbeat", b"keepalive", b"keep-alive", b"keep_alive"})
_PING = re.compile(rb'\{\s*(?:"type"\s*:\s*"(?:ping|heartbeat|keep[-_]?alive)"\s*)?\}')
PING_BYTES = 64  # shorter than most tokens' events

# Chunk sizes as servers write them; int() takes longer, and would take a sign and other things that are none.
_SIZES = {text % size: size for size in range(4096) for text in (b"%x", b"%X", b"%04x")}


class Sent(NamedTuple):
    """One event: its payload, the read that completed its last data line, and its name if it has one."""

    payload: bytes
    at: int
    name: bytes = b""


def one_event(data: bytes) -> bytes | None:
    """The payload of a read that is exactly one chunk with exactly one event, as nearly all are; None for others."""
    size = data.find(b"\r\n", 0, 10)
    # Line feeds: after the size, two after the event, after the chunk.
    if not (size > 0 and data[-4:] == b"\n\n\r\n" and data.startswith(b"data:", size + 2) and data.count(b"\n") == 4):
        return None
    whole = _SIZES.get(data[:size]) == len(data) - size - 4 and data.count(b"\r") == 2
    return data[size + 7 : -4].strip() if whole else None


def is_ping(payload: bytes, name: bytes = b"") -> bool:
    """Whether the event only keeps the connection open."""
    return not payload or name in _PING_NAMES or (len(payload) < PING_BYTES and _PING.fullmatch(payload) is not None)


class Events:
    """Extracts server-sent events from bytes that may be split anywhere.

    WHATWG HTML, section 9.2: lines end in LF, CR LF or CR; `data:` with or without a space; several data lines are one
    payload; a colon first is a comment; a blank line ends the event, which is none if it has no data. The end of the
    stream ends an event too, which the standard would discard but engines use."""

    def __init__(self) -> None:
        self.pending = bytearray()
        self.data: list[bytes] = []
        self.name = b""
        self.completed = 0  # the read that brought the end of the last data line
        self.begun = False  # the first line has come, before which a byte order mark may stand

    @property
    def clean(self) -> bool:
        """Whether the next byte begins an event."""
        return not (self.pending or self.data or self.name)

    def feed(self, piece: bytes, at: int) -> list[Sent]:
        """The events that `piece` completes."""
        held = self.pending[-1:] == b"\r"  # a CR that ended the piece before: whether LF follows is known now
        self.pending += piece
        if not held and b"\n" not in piece and b"\r" not in piece:
            return []
        data = bytes(self.pending)
        # A CR at the end waits for the next byte, which may be its LF.
        *lines, rest = data.split(b"\n") if b"\r" not in data else _LINE_END.split(data.removesuffix(b"\r"))
        self.pending = bytearray(rest + b"\r" if data[-1] == 13 else rest)
        return [event for line in lines for event in self._line(line, at)]

    def _line(self, line: bytes, at: int) -> list[Sent]:
        if not self.begun:
            self.begun = True
            line = line.removeprefix(_BOM)
        if not line:
            return self.end()
        field, _, value = line.partition(b":")
        if field == b"data":
            self.data.append(value.removeprefix(b" "))
            self.completed = at
        elif field == b"event":
            self.name = value.strip()
        return []

    def end(self) -> list[Sent]:
        """The unfinished event, if there is one."""
        payload, name, self.data, self.name = b"\n".join(self.data).strip(), self.name, [], b""
        return [Sent(payload, self.completed, name)] if payload else []

    def close(self, at: int) -> list[Sent]:
        """The last event, ended by the end of the stream, which came with the read `at`."""
        line, self.pending = bytes(self.pending).removesuffix(b"\r"), bytearray()
        return [*(self._line(line, at) if line else ()), *self.end()]


def events_of(body: bytes) -> list[bytes]:
    """The payload of every event of a whole stream, without its end mark and without those that only keep it open."""
    events = Events()
    found = [*events.feed(body, 0), *events.close(0)]
    return [event.payload for event in found if event.payload != b"[DONE]" and not is_ping(event.payload, event.name)]
