"""Replays a job against one endpoint. The only code that runs while the clock runs.

Everything possible is done before the clock starts: requests are encoded, connections are open. While requests are
in flight, a read of a socket stores two time stamps and the bytes, which are parsed afterwards
(harness.decode.exchange)."""

from __future__ import annotations

import contextlib
import gc
import signal
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.driver.clock import CONTROL_BYTES, EARLY, arrival, clock_lead, departures, is_early, send_stamped
from harness.driver.connection import SENT, TIMEOUT_NS, Connection, Pool, reason
from harness.driver.deadlines import Deadlines
from harness.driver.job import Interrupted, Job, Replayed
from harness.driver.poller import EDGE, GONE, READ, WRITE
from harness.driver.spool import RESPONSE_LIMIT_BYTES, Exchange, Spool
from harness.driver.turns import Ending, Pace, Turns

READ_BYTES = 1024  # more than most events have; a longer one takes a second read
LONG_BYTES = 16 << 10  # a longer request takes a while to leave, so the kernel's departure time is recorded
CLOCK_STEP_NS = 500_000  # slewing the clock stays far below this between two wake-ups; a step does not
_CR, _LF = 13, 10
_SLACK_NS = 100_000
_READS_IN_A_ROW = 64  # of one connection, off the hot path
_LOOK_READS = 1 << 16  # check for endless responses after this many reads
_BATCH_READS = 512  # reads handed to the spool at once: fewer cost more per read, more would be a noticeable pause
_TICK_NS, _LONGEST_TICK_NS = 2_000, 2_000_000  # between two polls of the sockets: per request in flight, and at most
_mono = time.monotonic_ns


# The function to read with, the index of the request, and the last bytes read.
_Stream = list[Any]


def replay(job: Job, folder: Path | None = None) -> Replayed:
    """Sends every order at its time and stores every read, on disk in `folder` (None: the system's folder for temporary
    files). A request that has not ended in time is aborted, which tells the engine to stop.

    Raises OSError if the disk is full; an endpoint's errors are faults in the exchange."""
    with driver(job, Spool(folder=folder)) as run:
        return run(_mono())


@contextlib.contextmanager
def driver(job: Job, spool: Spool) -> Iterator[Callable[[int], Replayed]]:
    """Opens the connections and yields a function that replays the job from a monotonic time (ns) on."""
    loop = _Loop(job, spool)
    try:
        loop.connect()
        # A garbage collection of some milliseconds would delay sends and reads.
        gc.collect()
        gc.disable()
        yield loop.run
    finally:
        gc.enable()
        loop.pool.close()


class _Loop:
    def __init__(self, job: Job, spool: Spool) -> None:
        self.job, self.spool = job, spool
        self.pool = Pool(job.address)
        self.deadlines = Deadlines(job.deadline_s)
        # By descriptor, the connections that only need reading: the hot path, where a list is faster than a dict.
        self.streams: list[_Stream | None] = []
        self.unreachable = job.address.problem
        self.order = {order.index: order for order in job.orders}
        catch_up_ns = min(_TICK_NS * job.connections, _LONGEST_TICK_NS) // 2
        self.pace = Pace(job.connections, catch_up_ns, job.drivers)
        self.turns = Turns(job.orders, job.slots, job.ramp_s, self.pace, Ending(job.duration_s, job.enough))
        self.carrier: dict[int, Connection] = {}  # request in flight -> its connection
        self.look_again = _LOOK_READS
        self.received: dict[int, int] = {}  # request -> bytes that its connection had received at the first check

    def connect(self) -> None:
        """Opens one connection for each request that can be in flight, before the clock starts.

        If none opens, no request is tried: each would only wait for the same error."""
        if not self.unreachable:
            until_ns = _mono() + min(TIMEOUT_NS, self.deadlines.deadline_ns)
            self.unreachable = self.pool.fill(self.job.connections, until_ns)
        self._make_room(max(self.pool.open, default=0))

    def _make_room(self, fd: int) -> None:
        self.streams += [None] * (fd + 1 - len(self.streams))

    def run(self, start_ns: int) -> Replayed:
        """From the first request to the last response. Raises Interrupted with what was received so far."""
        cpu = time.process_time()
        steps: list[int] = []
        stopped = False
        self.turns.start(start_ns)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            # A worker accepts Ctrl-C only here; anywhere else it would lose what was received so far.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            try:
                self._replay(start_ns, steps)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        except KeyboardInterrupt:
            stopped = True
            for index, connection in list(self.carrier.items()):
                if connection.exchange is not None and connection.exchange.index == index:
                    self._end(connection.exchange, connection, "interrupted")
        cpu_s, wall_s = time.process_time() - cpu, (_mono() - start_ns) / 1e9
        self.spool.store()
        self.spool.flush()
        replayed = Replayed(self.spool, start_ns, tuple(steps), cpu_s, wall_s)
        if stopped:
            raise Interrupted([replayed])
        return replayed

    def _replay(self, start_ns: int, steps: list[int]) -> None:
        lead = clock_lead()
        turns, connections, wait = self.turns, self.pool.open, self.pool.poller.wait
        spool, batch, keep = self.spool, self.spool.batch, self.spool.batch.append
        streams, mono = self.streams, _mono
        stamped, woken = sys.platform == "linux", 0
        while True:
            now, until = _mono(), turns.until_ns
            if until is not None and now >= until:
                turns.stop()
            wake = self._dispatch(now)
            if not turns.busy and not turns.waiting:
                break
            if until is not None and turns.waiting:
                wake = until if wake is None else min(wake, until)
            # Waking up for every token would take CPU time, on cores that the engine may share, and lower throughput.
            # The kernel stamps arrivals meanwhile, so this pause is in no latency. It grows with the streams in
            # flight, but stays shorter than reading one token of each takes.
            due = woken + min(_TICK_NS * turns.busy, _LONGEST_TICK_NS)
            if wake is not None:
                due = min(due, wake - _SLACK_NS)  # the poller wakes to the microsecond, a sleep does not
            if stamped and (pause := due - _mono()) > 0:
                time.sleep(pause / 1e9)
            events = wait(wake)
            woken = _mono()
            # The kernel stamps in realtime, everything else here is monotonic. Arrivals before a step of the realtime
            # clock would be off by the step, so decoding ignores their stamps.
            fresh = clock_lead()
            if abs(fresh - lead) > CLOCK_STEP_NS:
                steps.append(_mono())
            lead = fresh
            for fd, mask in events:
                stream = streams[fd]
                if stream is None or mask != READ:
                    if connection := connections.get(fd):
                        self._attend(connection, lead, mask)
                    continue
                try:
                    data, control, _, _ = stream[0](READ_BYTES, CONTROL_BYTES)
                except OSError as problem:
                    self._lost(connections[fd], problem)
                    continue
                keep((stream[1], mono(), lead, control[0][2] if control else None, data))
                # The last read of a response has a CR there; a shorter read may be a part of the end, and one that does
                # not end in LF may hold bytes after it.
                if 5 < len(data) < READ_BYTES and data[-4] != _CR and data[-1] == _LF:
                    stream[2] = data
                    continue
                self._look(connections[fd], stream, data, lead)
            self._expire(_mono())
            if len(batch) >= _BATCH_READS:
                spool.store()
                if spool.stored > self.look_again:
                    self._cut_endless()

    def _dispatch(self, now: int) -> int | None:
        """Sends what is due; returns when to wake up at the latest."""
        while (due := self.turns.due_ns(now)) is not None and due <= now:
            order, own_ns = self.turns.take(now)
            exchange = Exchange(order.index, due_ns=own_ns)
            now = _mono()
            self.pace.left(now, len(order.payload))
            self.deadlines.sent(exchange, now, order.cancel_after_s)
            self._send(exchange)
        return self._wake(due)

    def _send(self, exchange: Exchange, fresh: bool = False) -> None:
        if self.unreachable:
            self._end(exchange, None, self.unreachable)
            return
        try:
            connection = self.pool.connect() if fresh else self.pool.take()
            self._make_room(connection.sock.fileno())
        except OSError as problem:
            self._end(exchange, None, f"connection failed: {reason(problem)}")
            return
        if connection.unasked:
            self._end(exchange, connection, EARLY)
            return
        connection.begin(exchange)
        self.carrier[exchange.index] = connection
        if connection.connect_ns is not None:
            self._start(connection, exchange)

    def _start(self, connection: Connection, exchange: Exchange) -> None:
        exchange.connect_ns, exchange.sent_ns = connection.connect_ns, _mono()
        payload = self.order[exchange.index].payload
        connection.stamped = len(payload) > LONG_BYTES and sys.platform == "linux"
        self._upload(connection, exchange, connection.tls.encrypt(payload) if connection.tls else payload)

    def _upload(self, connection: Connection, exchange: Exchange, data: bytes | memoryview) -> None:
        size = len(data)
        try:
            sent = send_stamped(connection.sock, data) if connection.stamped else connection.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as problem:
            if not connection.used:
                self._end(exchange, connection, f"send failed: {reason(problem)}")
                return
            sent = size  # the read will see that the connection is closed, and send again
        if sent == size:
            exchange.uploaded_ns = _mono()
            if connection.out:
                connection.out = SENT
                self.pool.watch(connection, READ | EDGE)
        else:
            connection.out = memoryview(data)[sent:]
            self.pool.watch(connection, READ | WRITE | EDGE)

    def _attend(self, connection: Connection, lead: int, mask: int = READ) -> None:
        """Slow path: anything but streaming reads."""
        exchange = connection.exchange
        fd = connection.sock.fileno()
        if stream := self.streams[fd]:
            self.streams[fd] = None
            connection.tail = stream[2][-6:]
        if connection.connect_ns is None:
            try:
                if self.pool.establish(connection) and exchange is not None:
                    self._start(connection, exchange)
            except OSError as problem:
                if exchange is not None:
                    self._end(exchange, connection, reason(problem))
            return
        if connection.out and exchange is not None:
            self._upload(connection, exchange, connection.out)
            if connection.exchange is None:
                return
        if connection.stamped and exchange is not None:
            left_ns = departures(connection.sock, lead)
            if left_ns and not connection.out:
                exchange.uploaded_ns = left_ns[-1]  # when it really left, not when `send` returned
        for _ in range(_READS_IN_A_ROW):
            more = self._read(connection, lead)
            if not more and (more is None or not mask & ~(READ | WRITE)):
                break
        else:  # let the other connections have their turn, even if this server writes as fast as this reads
            self.pool.remind(connection)
        if connection.exchange is None and mask & GONE:
            self.pool.drop(connection)  # the server closed the connection right after the response

    def _read(self, connection: Connection, lead: int) -> bool | None:
        """One read off the hot path. Returns whether there may be more to read now; None if certainly not."""
        exchange = connection.exchange
        try:
            data, control, _, _ = connection.recvmsg(READ_BYTES, CONTROL_BYTES)
            read_ns = _mono()
        except OSError as problem:
            self._lost(connection, problem)
            return None
        more = len(data) == READ_BYTES
        if exchange is None:
            # Between requests a server may close the connection or, under TLS, renew its keys.
            if not data or not connection.take_unasked(data):
                self.pool.drop(connection)
            return None
        if not data and connection.used and not connection.got:
            self._again(connection, exchange)
            return None
        if data and connection.tls:
            plain = self._decrypted(connection, data)
            if plain is None:
                self._end(exchange, connection, "TLS: the server broke the session")
                return None
            if not plain:
                return more
            data = plain
        self.spool.batch.append((exchange.index, read_ns, lead, control[0][2] if control else None, data))
        if not connection.got and is_early(
            arrival(control[0][2] if control else None, lead, read_ns), exchange.sent_ns
        ):
            connection.framing.excess = True  # decoding names it; the next answer would be off by one as well
        connection.got += len(data)
        before, connection.tail = connection.tail, (connection.tail + data)[-6:]
        self._progress(connection, before, data, read_ns)
        if connection.exchange is not exchange:
            return None
        if not more and not connection.tls and not connection.out and not connection.framing.attentive:
            self.streams[connection.sock.fileno()] = [connection.recvmsg, exchange.index, connection.tail]
        return more

    def _decrypted(self, connection: Connection, data: bytes) -> bytes | None:
        assert connection.tls is not None
        try:
            return connection.tls.decrypt(data)
        except ssl.SSLError:
            return None

    def _again(self, connection: Connection, exchange: Exchange) -> None:
        """Sends again: the engine closed a kept connection just as the request was sent, so it never got it."""
        self.pool.drop(connection)
        exchange.uploaded_ns = None
        self._send(exchange, fresh=True)

    def _lost(self, connection: Connection, problem: OSError) -> None:
        exchange = connection.exchange
        if isinstance(problem, BlockingIOError):
            return
        if exchange is None:
            self.pool.drop(connection)
        elif connection.used and not connection.got:
            self._again(connection, exchange)
        else:
            self._end(exchange, connection, f"connection lost: {reason(problem)}", cut=True)

    def _look(self, connection: Connection, stream: _Stream, data: bytes, lead: int) -> None:
        """Handles a read that may have ended the response, or may have left more to read."""
        before, stream[2] = stream[2], data if len(data) > 5 else (stream[2] + data)[-6:]
        connection.got += len(data)
        exchange = connection.exchange
        self._progress(connection, before, data, _mono())
        if len(data) == READ_BYTES and connection.exchange is exchange:
            self._attend(connection, lead)

    def _cut_endless(self) -> None:
        """Aborts responses that would fill the disk."""
        self.look_again = self.spool.stored + _LOOK_READS
        for connection in list(self.carrier.values()):
            exchange = connection.exchange
            if exchange is None:
                continue
            received = connection.received()
            known = self.received.setdefault(exchange.index, received)
            if received - known > RESPONSE_LIMIT_BYTES:
                self._end(exchange, connection, f"response longer than {RESPONSE_LIMIT_BYTES >> 20} MiB")

    def _progress(self, connection: Connection, before: bytes, data: bytes, read_ns: int) -> None:
        """Ends the exchange if this read ended the response."""
        exchange, framing = connection.exchange, connection.framing
        assert exchange is not None
        if not data:
            fault = "connection closed in mid-response" if connection.got else "connection closed without a response"
            exchange.done_ns = read_ns
            if framing.until_close and connection.got:
                self._end(exchange, connection, None)
            else:
                self._end(exchange, connection, fault, cut=True)
        elif framing.ends(before, data):
            exchange.done_ns = read_ns
            self._end(exchange, connection, None)

    def _end(self, exchange: Exchange, connection: Connection | None, fault: str | None, cut: bool = False) -> None:
        exchange.fault, exchange.cut = fault, cut
        if exchange.done_ns is None:
            exchange.done_ns = _mono()
        self.turns.ended(self.order[exchange.index], exchange.done_ns)
        self.carrier.pop(exchange.index, None)
        self.spool.end(exchange)
        if self.received:
            self.received.pop(exchange.index, None)
        if connection is None:
            return
        self.streams[connection.sock.fileno()] = None
        framing = connection.framing
        # With `out`, not the whole request was sent; after `excess`, the next answer would begin with other bytes.
        reusable = fault is None and framing.reusable and not connection.out and not framing.excess
        connection.exchange = None
        if reusable:
            connection.used = True
            self.pool.idle.append(connection)
        else:
            self.pool.drop(connection)

    def _expire(self, now: int) -> None:
        """Aborts requests that timed out or are cancelled: closing the connection tells the engine to stop."""
        for exchange, why in self.deadlines.over(now):
            self._end(exchange, self.carrier.get(exchange.index), why)

    def _wake(self, due: int | None) -> int | None:
        """`due`, or when the next request times out or is cancelled, if that is sooner."""
        over = self.deadlines.next_ns()
        return due if over is None else over if due is None else min(due, over)
