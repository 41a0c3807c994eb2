"""A log of what the driver read, on disk, so that a long run does not fill the memory.

Reads of many requests are interleaved, with an entry where a request ended. They are sorted by request after the
clock has stopped."""

from __future__ import annotations

import errno
import tempfile
from collections import deque
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import msgspec

RESPONSE_LIMIT_BYTES = 64 << 20  # of one response; the driver aborts longer ones
# The most kept in memory: reads as tuples, then encoded bytes. Only a long run encodes and writes while the clock runs.
HELD_READS, HELD_BYTES = 1 << 18, 32 << 20
# The fields of Read as a plain tuple, which is faster to make.
_Entry = tuple[int, int, int, bytes | None, bytes]


class Read(NamedTuple):
    """One read: the request's index, when it was read (monotonic ns), the realtime clock's lead over the monotonic one
    at that time, the kernel's time stamp message (None if there is none) and the bytes. The end of request i is an
    entry with index -1 - i, whose bytes are the Exchange."""

    request: int
    read_ns: int
    lead_ns: int
    stamp: bytes | None
    data: bytes


class Exchange(msgspec.Struct):
    """The raw facts of one request; monotonic nanoseconds. `fault` is None if the response ended properly according to
    HTTP; `cut`: it is that the connection ended before the response. `reads` are in the log, and filled in here only
    when it is read back."""

    index: int
    due_ns: int | None = None  # scheduled, or when what it waited for ended; None: whenever a slot is free
    connect_ns: int | None = None  # duration
    sent_ns: int | None = None
    uploaded_ns: int | None = None
    done_ns: int | None = None
    fault: str | None = None
    cancelled: bool = False
    cut: bool = False
    reads: list[Read] = []


class Spool:
    """The log, in an unnamed file, which disappears however the process ends.

    The driver appends to `batch` and calls `store` now and then. Raises OSError if the disk is full."""

    def __init__(self, file: FileIO | None = None, folder: Path | None = None) -> None:
        self.file: FileIO = file or tempfile.TemporaryFile(buffering=0, dir=folder)  # noqa: SIM115  (closed by close)
        self.batch: list[_Entry] = []
        self.stored = 0  # reads and ends so far
        self._fresh: deque[list[_Entry]] = deque()
        self._fresh_reads = 0
        self._blocks: deque[bytes] = deque()
        self._held = 0  # their bytes
        self._encode = msgspec.msgpack.Encoder().encode

    def end(self, exchange: Exchange) -> None:
        """Adds the end of a request, after the last of its reads."""
        self.batch.append((-1 - exchange.index, 0, 0, None, self._encode(exchange)))

    def store(self) -> None:
        """Takes what is in `batch`; beyond the limits, the oldest reads are encoded and then written to disk."""
        count = len(self.batch)
        self._fresh.append(self.batch[:])
        self.batch.clear()
        self.stored += count
        self._fresh_reads += count
        while self._fresh_reads > HELD_READS:
            self._encode_oldest()

    def flush(self) -> None:
        """Writes out all that was stored."""
        while self._fresh:
            self._encode_oldest()
        while self._blocks:
            self._write_oldest()

    def _encode_oldest(self) -> None:
        reads = self._fresh.popleft()
        self._fresh_reads -= len(reads)
        block = self._encode(reads)
        self._blocks.append(block)
        self._held += len(block)
        while self._held > HELD_BYTES:
            self._write_oldest()

    def _write_oldest(self) -> None:
        block = self._blocks.popleft()
        self._held -= len(block)
        self.write(len(block).to_bytes(8, "little") + block)

    def write(self, data: bytes) -> None:
        """Writes all of it. Raises OSError when the disk is full."""
        at = 0
        while at < len(data):
            at += self.file.write(data[at:] if at else data)

    def __iter__(self) -> Iterator[Exchange]:
        """Every request with its reads, in the order in which they ended. Only requests that were in flight together
        are in memory at the same time."""
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
                more = self.file.read(left - len(block))
                if not more:
                    raise OSError(errno.EIO, "the log of this run is cut short")
                block += more
            yield from decode(block)

    def close(self) -> None:
        self.file.close()
