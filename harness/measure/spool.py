"""What the driver read, in the order in which it read it, on disk: a long run does not fill the memory.

A log: reads of many requests interleaved, and a mark where a request ended. Nothing is sorted out before the
clock has stopped."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import msgspec

RESPONSE_LIMIT_BYTES = 64 << 20  # of one response; the driver cuts longer ones off
_HELD_BYTES = 256 << 10  # written at once: a tenth of a millisecond


class Read(NamedTuple):
    """One read: whose response it is of, when it was read (monotonic ns), the realtime clock's lead over the
    monotonic one then, the kernel's time stamp message (null: it gave none) and the bytes. The end of request
    i is entry -1 - i, whose bytes are the Exchange."""

    request: int
    read_ns: int
    lead_ns: int
    stamp: bytes | None
    data: bytes


@dataclass(slots=True)
class Exchange:
    """The raw facts of one request; monotonic nanoseconds. `fault` is null when the response ended as
    HTTP says a response ends. `reads` are in the log, and here only once it has been read back."""

    index: int
    connect_ns: int | None = None  # duration
    sent_ns: int | None = None
    uploaded_ns: int | None = None
    done_ns: int | None = None
    fault: str | None = None
    cancelled: bool = False
    reads: list[Read] = field(default_factory=list)


class Spool:
    """The log, in an unnamed file: nothing of it is left behind, however the process ends.

    The driver appends to `batch` and calls `store` when it has nothing better to do. Raises OSError when the
    disk is full."""

    def __init__(self, file: FileIO | None = None, folder: Path | None = None) -> None:
        self.file: FileIO = file or tempfile.TemporaryFile(buffering=0, dir=folder)  # noqa: SIM115
        self.batch: list[tuple[int, int, int, bytes | None, bytes]] = []  # as Read, which takes longer to make
        self.size = 0  # bytes of the whole log
        self._held = bytearray()
        encoder = msgspec.msgpack.Encoder()
        self._encode, self._encode_into = encoder.encode, encoder.encode_into

    def end(self, exchange: Exchange) -> None:
        """What became of a request, after the last of its reads."""
        self.batch.append((-1 - exchange.index, 0, 0, None, self._encode(exchange)))

    def store(self) -> None:
        """Takes what is in `batch`."""
        held = self._held
        at = len(held)
        self._encode_into(self.batch, held, at + 8)
        held[at : at + 8] = (len(held) - at - 8).to_bytes(8, "little")
        self.size += len(held) - at
        self.batch.clear()
        if len(held) > _HELD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes out what was stored."""
        at, view = 0, memoryview(self._held)
        while at < len(view):
            at += self.file.write(view[at:])
        self._held = bytearray()

    def __iter__(self) -> Iterator[Exchange]:
        """Every request with its reads, in the order in which they ended. In memory is only what was in flight
        together."""
        under_way: dict[int, list[Read]] = {}
        decode = msgspec.msgpack.Decoder(Exchange).decode
        for read in self._entries():
            index = read[0]
            if index >= 0:
                if index in under_way:
                    under_way[index].append(read)
                else:
                    under_way[index] = [read]
            else:
                exchange = decode(read[4])
                exchange.reads = under_way.pop(exchange.index, [])
                yield exchange

    def _entries(self) -> Iterator[Read]:
        decode = msgspec.msgpack.Decoder(list[Read]).decode
        self.file.seek(0)
        while head := self.file.read(8):
            left = int.from_bytes(head, "little")
            block = self.file.read(left)
            while len(block) < left:
                block += self.file.read(left - len(block))
            yield from decode(block)

    def close(self) -> None:
        self.file.close()
