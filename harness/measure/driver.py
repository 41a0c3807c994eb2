"""Replays a schedule against one endpoint. The only code that runs while the clock runs.

Everything that can be done before the clock is done before it: requests encoded, connections open. While
requests are in flight a read of a socket is two time stamps and bytes; what the bytes mean is worked out
afterwards (harness.measure.decode)."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.schedule import Schedule

READ_BYTES = 1 << 16
CLOCK_STEP_NS = 500_000  # slewing stays far below this between two wake-ups; a step does not
_SO_TIMESTAMPING = getattr(socket, "SO_TIMESTAMPING", 37)
_RX_SOFTWARE, _SOFTWARE = 1 << 3, 1 << 4  # linux/net_tstamp.h
_mono, _real = time.monotonic_ns, time.time_ns


@dataclass(slots=True)
class Read:
    """One read: when it was read (monotonic ns), the realtime clock's lead over the monotonic one then
    (null: the clock had just been stepped), the kernel's time stamp message and the bytes."""

    read_ns: int
    lead_ns: int | None
    stamp: bytes | None
    data: bytes


@dataclass(slots=True)
class Exchange:
    """The raw facts of one request; monotonic nanoseconds. `fault` is null when the response ended as
    HTTP says a response ends."""

    index: int
    connect_ns: int | None = None  # duration
    sent_ns: int | None = None
    uploaded_ns: int | None = None
    reads: list[Read] = field(default_factory=list)
    done_ns: int | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Replayed:
    """All exchanges in schedule order, the clock's zero, and the CPU seconds that the driver itself took."""

    exchanges: tuple[Exchange, ...]
    start_ns: int
    cpu_s: float
    wall_s: float


class _Connection:
    """A socket, the exchange it carries at the moment, and how far the response has got."""

    __slots__ = (
        *("sock", "opened_ns", "connect_ns", "used", "exchange", "out"),
        *("head", "chunked", "left", "tail", "reusable"),
    )

    def __init__(self, address: tuple[str, int]) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        # Nagle's algorithm would hold back the end of a long prompt until the engine acknowledged its start.
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):  # not Linux: read times stand in, marked as such
            self.sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _RX_SOFTWARE | _SOFTWARE)
        self.opened_ns = _mono()
        self.connect_ns: int | None = None
        code = self.sock.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            self.sock.close()
            raise ConnectionError(os.strerror(code))
        self.exchange: Exchange | None = None
        self.out = memoryview(b"")
        self.used = False  # has carried a whole exchange before
        self.begin(None)

    def begin(self, exchange: Exchange | None) -> None:
        self.exchange = exchange
        self.head = b""
        self.chunked = False
        self.left: int | None = None  # body bytes still to come; null: until the connection closes
        self.tail = b""
        self.reusable = True


def replay(address: tuple[str, int], schedule: Schedule, payloads: Sequence[bytes], deadline_s: float) -> Replayed:
    """Sends `payloads[i]` (a whole HTTP/1.1 request) as `schedule.requests[i]` says and keeps every read.

    A request that has not ended `deadline_s` after it was sent is cut off, which tells the engine to stop.
    Raises nothing for what an endpoint does wrong: that is a fault in the exchange."""
    loop = _Loop(address, schedule, payloads, int(deadline_s * 1e9))
    try:
        loop.open_connections()
        # A collection pause of milliseconds would be read as the engine's latency.
        gc.disable()
        return loop.run()
    finally:
        gc.enable()
        loop.close()


class _Loop:
    def __init__(
        self, address: tuple[str, int], schedule: Schedule, payloads: Sequence[bytes], deadline_ns: int
    ) -> None:
        self.address, self.schedule, self.payloads = address, schedule, payloads
        self.deadline_ns = deadline_ns
        self.epoll = select.epoll()
        self.connections: dict[int, _Connection] = {}
        self.idle: list[_Connection] = []
        self.exchanges = [Exchange(r.index) for r in schedule.requests]
        self.next = 0
        self.busy = 0
        self.batch_left: dict[int, int] = {}
        for r in schedule.requests:
            self.batch_left[r.batch] = self.batch_left.get(r.batch, 0) + 1
        self.batches = deque(sorted(self.batch_left))
        self.deadlines: deque[tuple[int, Exchange]] = deque()
        self.carrier: dict[int, _Connection] = {}  # of each request in flight

    # -- connections ------------------------------------------------------------------------------------

    def open_connections(self) -> None:
        """One connection for each request that can be in flight, all established before the clock."""
        until = _mono() + self.deadline_ns
        try:
            waiting = [self._connect() for _ in range(self.schedule.in_flight)]
        except OSError:
            return  # each request will meet the refusal itself and record it
        while waiting and _mono() < until:
            for fd, _ in self.epoll.poll(1.0):
                connection = self.connections.get(fd)
                if connection in waiting:
                    waiting.remove(connection)
                    if self._established(connection):
                        self.idle.append(connection)

    def _connect(self) -> _Connection:
        connection = _Connection(self.address)
        fd = connection.sock.fileno()
        self.connections[fd] = connection
        self.epoll.register(fd, select.EPOLLIN | select.EPOLLOUT)
        return connection

    def _established(self, connection: _Connection) -> bool:
        if connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._drop(connection)
            return False
        connection.connect_ns = _mono() - connection.opened_ns
        self.epoll.modify(connection.sock.fileno(), select.EPOLLIN)
        return True

    def _drop(self, connection: _Connection) -> None:
        fd = connection.sock.fileno()
        if fd in self.connections:
            self.epoll.unregister(fd)
            del self.connections[fd]
            connection.sock.close()
        if connection in self.idle:
            self.idle.remove(connection)

    def close(self) -> None:
        for connection in list(self.connections.values()):
            self._drop(connection)
        self.epoll.close()

    # -- the clock runs ---------------------------------------------------------------------------------

    def run(self) -> Replayed:
        cpu, start = time.process_time(), _mono()
        lead, stepped = _real() - _mono(), False
        total = len(self.schedule.requests)
        while self.next < total or self.busy:
            now = _mono()
            wake = self._dispatch(now, start)
            if not self.busy and self.next >= total:
                break
            events = self.epoll.poll(max(0.0, (wake - _mono()) / 1e9))
            # The kernel stamps in realtime, everything else here is monotonic: take both at one moment, and
            # only believe the pair when nothing came between them.
            before = _mono()
            real = _real()
            after = _mono()
            if after - before < 20_000:
                fresh = real - (before + after) // 2
                # After a clock step the stamps of this batch are on the old clock: read times instead.
                stepped = abs(fresh - lead) > CLOCK_STEP_NS
                lead = fresh
            for fd, _ in events:
                connection = self.connections.get(fd)
                if connection is not None:
                    self._on_event(connection, None if stepped else lead)
            self._expire(_mono())
        wall = (_mono() - start) / 1e9
        return Replayed(tuple(self.exchanges), start, time.process_time() - cpu, wall)

    def _dispatch(self, now: int, start: int) -> int:
        """Sends what is due; returns when to wake up at the latest."""
        requests, slots = self.schedule.requests, self.schedule.slots
        while self.next < len(requests) and (slots is None or self.busy < slots):
            request = requests[self.next]
            if request.batch != self.batches[0]:
                break
            if request.scheduled_s is not None:
                due = start + int(request.scheduled_s * 1e9)
                if due > now:
                    return min(due, self._next_deadline(now))
            exchange = self.exchanges[self.next]
            self.busy += 1
            self.deadlines.append((_mono() + self.deadline_ns, exchange))
            self._send(exchange, self.payloads[self.next])
            self.next += 1
        return self._next_deadline(now)

    def _next_deadline(self, now: int) -> int:
        return self.deadlines[0][0] if self.deadlines else now + 1_000_000_000

    def _send(self, exchange: Exchange, payload: bytes, fresh: bool = False) -> None:
        try:
            connection = self.idle.pop() if self.idle and not fresh else self._connect()
        except OSError as problem:
            self._end(exchange, None, f"connection failed: {problem}")
            return
        connection.begin(exchange)
        connection.out = memoryview(payload)
        self.carrier[exchange.index] = connection
        if connection.connect_ns is not None:
            exchange.connect_ns = connection.connect_ns
            exchange.sent_ns = _mono()
            self._upload(connection, exchange)

    def _upload(self, connection: _Connection, exchange: Exchange) -> None:
        try:
            sent = connection.sock.send(connection.out)
        except BlockingIOError:
            sent = 0
        except OSError as problem:
            if not connection.used:
                self._end(exchange, connection, f"send failed: {problem.strerror}")
                return
            sent = len(connection.out)  # the reading side sees the same end and sends again
        connection.out = connection.out[sent:]
        if connection.out:
            self.epoll.modify(connection.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
            return
        exchange.uploaded_ns = _mono()
        if sent < len(self.payloads[exchange.index]):  # it took more than one go: stop asking for room to write
            self.epoll.modify(connection.sock.fileno(), select.EPOLLIN)

    def _on_event(self, connection: _Connection, lead: int | None) -> None:
        exchange = connection.exchange
        if connection.connect_ns is None:
            if not self._established(connection):
                if exchange is not None:
                    self._end(exchange, connection, "connection refused")
                return
            if exchange is not None:
                exchange.connect_ns, exchange.sent_ns = connection.connect_ns, _mono()
                self._upload(connection, exchange)
            return
        if connection.out and exchange is not None:
            self._upload(connection, exchange)
            if connection.exchange is None:
                return
        try:
            data, stamps, _, _ = connection.sock.recvmsg(READ_BYTES, 128)
            read_ns = _mono()
        except BlockingIOError:
            return
        except OSError as problem:
            data, stamps, read_ns = b"", [], _mono()
            if exchange is not None and not connection.used:
                self._end(exchange, connection, f"connection lost: {problem.strerror}")
                return
        if exchange is None:  # an idle connection that the engine closed, or that talks out of turn
            self._drop(connection)
            return
        if not data and connection.used and not exchange.reads:
            # The engine closed a kept connection just as the request went out: it never took the request.
            self._drop(connection)
            self._send(exchange, self.payloads[exchange.index], fresh=True)
            return
        if data:
            exchange.reads.append(Read(read_ns, lead, stamps[0][2] if stamps else None, data))
            if _complete(connection, exchange, data):
                exchange.done_ns = read_ns
                self._end(exchange, connection, None)
            return
        exchange.done_ns = read_ns
        until_close = bool(connection.head) and not connection.chunked and connection.left is None
        self._end(exchange, connection, None if until_close else "connection closed in mid-response")

    def _end(self, exchange: Exchange, connection: _Connection | None, fault: str | None) -> None:
        exchange.fault = fault
        if exchange.done_ns is None:
            exchange.done_ns = _mono()
        self.busy -= 1
        self.carrier.pop(exchange.index, None)
        batch = self.schedule.requests[exchange.index].batch
        self.batch_left[batch] -= 1
        while self.batches and not self.batch_left[self.batches[0]]:
            self.batches.popleft()
        if connection is None:
            return
        if fault is None and connection.reusable and (connection.chunked or connection.left == 0):
            connection.begin(None)
            connection.used = True
            self.idle.append(connection)
        else:
            connection.exchange = None
            self._drop(connection)

    def _expire(self, now: int) -> None:
        deadlines = self.deadlines
        while deadlines:
            due, exchange = deadlines[0]
            if exchange.done_ns is None:
                if due > now:
                    return
                carrier = self.carrier.get(exchange.index)
                self._end(exchange, carrier, f"no end after {self.deadline_ns / 1e9:g} s")
            deadlines.popleft()


def _complete(connection: _Connection, exchange: Exchange, data: bytes) -> bool:
    """Whether `data` ends the response. Looks at the head once and at five bytes of every read."""
    if not connection.chunked and connection.left is None:
        if connection.head.endswith(b"\r\n\r\n"):
            return False  # a body that ends when the connection closes
        connection.head += data
        end = connection.head.find(b"\r\n\r\n")
        if end < 0:
            return False
        data = connection.head[end + 4 :]
        connection.head = connection.head[: end + 4]
        head = connection.head.lower()
        connection.reusable = b"connection: close" not in head and not head.startswith(b"http/1.0")
        connection.chunked = b"transfer-encoding: chunked" in head
        at = head.find(b"content-length:")
        if not connection.chunked and at >= 0:
            length = head[at + 15 : head.index(b"\r\n", at)].strip()
            connection.left = int(length) if length.isdigit() else 0
    if connection.left is not None:
        connection.left -= len(data)
        return connection.left <= 0
    if not connection.chunked:
        return False
    connection.tail = (connection.tail + data[-5:])[-5:]
    # The same five bytes may end an event's text, so the framing is walked before they are believed.
    return connection.tail == b"0\r\n\r\n" and _framing_complete(exchange, len(connection.head))


def _framing_complete(exchange: Exchange, head: int) -> bool:
    body = b"".join(read.data for read in exchange.reads)
    at = head
    while True:
        end = body.find(b"\r\n", at)
        if end < 0:
            return False
        try:
            size = int(body[at:end].split(b";")[0], 16)
        except ValueError:
            return True  # no chunk can follow what is not a chunk; decoding names the bytes
        at = end + 2 + size + 2
        if size == 0:
            return at <= len(body)
        if at > len(body):
            return False
