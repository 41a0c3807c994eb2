"""Connections to one address: opened before the clock starts, watched, kept and dropped."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
import socket
import ssl
import sys
import time

from harness.driver import tls
from harness.driver.address import Address, not_through_proxy, tls_context
from harness.driver.clock import stamp_arrivals
from harness.driver.framing import Framing
from harness.driver.poller import EDGE, GONE, READ, WRITE, new_poller
from harness.driver.spool import Exchange

TIMEOUT_NS = 10_000_000_000
_AT_A_TIME = 64  # connections being opened; more could overflow the server's backlog, and TCP retries after 1 s
_RECORD_BYTES = 1 << 16
_LOOK_BYTES = 64
_GOODBYE = re.compile(rb"\s*HTTP/1\.[0-9] 408", re.IGNORECASE)
_NOTHING = Framing()  # for a connection without an exchange
SENT = memoryview(b"")  # nothing is left to send
_mono = time.monotonic_ns


class Connection:
    """A socket, the exchange that it currently carries, and how far the response has got."""

    __slots__ = (
        *("sock", "recvmsg", "tls", "opened_ns", "connect_ns", "used", "mask"),
        *("exchange", "out", "framing", "got", "tail", "stamped", "unasked"),
    )

    def __init__(self, address: Address, context: ssl.SSLContext | None) -> None:
        self.sock = socket.socket(address.family, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        # Nagle's algorithm would delay the end of a long prompt until the engine acknowledges its start: TTFT too high.
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stamp_arrivals(self.sock)  # off Linux, read times are used instead, and marked as such
        self.recvmsg = self.sock.recvmsg
        self.tls = tls.Tls(context, address.host) if context else None
        self.opened_ns = _mono()
        self.connect_ns: int | None = None  # None until it is established, TLS included
        self.used = False  # whether it has carried a complete exchange before
        self.mask = READ | WRITE
        self.unasked = False  # bytes came that answer nothing: the next answer on it would begin with them
        self.begin(None)
        assert address.sockaddr is not None
        code = self.sock.connect_ex(address.sockaddr)
        if code not in (0, errno.EINPROGRESS):
            self.sock.close()
            raise ConnectionError(os.strerror(code))

    def begin(self, exchange: Exchange | None) -> None:
        """Takes a new exchange, or none."""
        self.exchange = exchange
        self.out = SENT
        self.framing = _NOTHING if exchange is None else Framing()
        self.stamped = False  # whether the kernel records when the request leaves
        self.got = 0  # bytes of the response before it became a stream
        self.tail = b""  # the last of them

    def establish(self) -> bool:
        """One step towards an open connection, TLS included; true when it is open. Raises OSError."""
        if code := self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(code, os.strerror(code))
        if self.tls and not self._handshake(self.tls):
            return False
        self.connect_ns = _mono() - self.opened_ns
        return True

    def _handshake(self, session: tls.Tls) -> bool:
        with contextlib.suppress(BlockingIOError):
            data = self.sock.recv(_RECORD_BYTES)
            if not data:
                raise ConnectionError(errno.ECONNRESET, "closed during the TLS handshake")
            session.incoming.write(data)
        try:
            done = session.handshake()
        finally:  # also if it fails: send the TLS alert that says why
            self.out = memoryview(bytes(self.out) + session.outgoing.read())
            with contextlib.suppress(BlockingIOError):
                self.out = self.out[self.sock.send(self.out) :]
        return done and not self.out

    def alive(self) -> bool:
        """Looks, before a request is sent, whether bytes have come meanwhile. False if the server has ended it."""
        if self.unasked:
            return True
        try:
            # Under TLS these are mostly new keys, which have to be taken in; otherwise a look is enough.
            data = self.sock.recv(_RECORD_BYTES) if self.tls else self.sock.recv(_LOOK_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return bool(data) and self.take_unasked(data)

    def take_unasked(self, data: bytes) -> bool:
        """Takes bytes that came while no request was in flight. False if they end the connection: nothing more will
        come, or no request can follow."""
        if self.tls:
            try:
                data = self.tls.decrypt(data)
            except ssl.SSLError:
                return False
            if not data:
                return True
        # Servers and proxies say goodbye to an idle connection with 408; a blank line means nothing.
        if not data.strip() or _GOODBYE.match(data):
            return False
        self.unasked = True
        return True

    def received(self) -> int:
        """All bytes received so far; 0 if the system does not report it."""
        if sys.platform != "linux":
            return 0
        info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136)
        return int.from_bytes(info[128:136], sys.byteorder)  # tcpi_bytes_received of linux/tcp.h


class Pool:
    """Every open connection by its file descriptor, the idle ones, and the poller."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.context = tls_context(address.ca_file) if address.tls else None
        self.poller = new_poller()
        self.open: dict[int, Connection] = {}
        self.idle: list[Connection] = []

    def fill(self, count: int, until_ns: int) -> str | None:
        """Opens `count` connections. Returns None if at least one is open, else why none is."""
        reasons: list[str] = []
        waiting: set[Connection] = set()
        while (waiting or count) and _mono() < until_ns:
            while count and len(waiting) < _AT_A_TIME:
                count -= 1
                try:
                    waiting.add(self.connect())
                except OSError as problem:  # no more descriptors, no route
                    reasons.append(reason(problem))
                    count = 0
            for fd, mask in self.poller.wait(until_ns) if waiting else ():
                connection = self.open.get(fd)
                if connection not in waiting:
                    if connection is not None and mask & GONE:
                        self.drop(connection)  # the server closed it already; a request on it would fail
                    continue
                try:
                    if not self.establish(connection):
                        continue
                    self.idle.append(connection)
                except OSError as problem:
                    reasons.append(reason(problem))
                    self.drop(connection)
                waiting.remove(connection)
        for connection in waiting:
            self.drop(connection)
        if self.idle:
            return None
        return (reasons[0] if reasons else "connection timed out") + not_through_proxy(self.address)

    def take(self) -> Connection:
        """An idle connection, or a new one, which is not open yet. Raises OSError."""
        while self.idle:
            connection = self.idle.pop()
            if connection.alive():
                return connection
            self.drop(connection)
        return self.connect()

    def connect(self) -> Connection:
        """A new connection, which is not open yet. Raises OSError."""
        connection = Connection(self.address, self.context)
        self.open[connection.sock.fileno()] = connection
        self.poller.register(connection.sock.fileno(), connection.mask)
        return connection

    def establish(self, connection: Connection) -> bool:
        """One step towards an open connection; true when it is. Raises OSError."""
        done = connection.establish()
        self.watch(connection, READ | EDGE if done else READ | WRITE if connection.out else READ)
        return done

    def watch(self, connection: Connection, mask: int) -> None:
        """Waits for these events from now on."""
        if connection.mask != mask:
            connection.mask = mask
            self.poller.modify(connection.sock.fileno(), mask)

    def remind(self, connection: Connection) -> None:
        """Has the poller report a connection again of which not everything was read."""
        if connection.sock.fileno() in self.open:
            self.poller.modify(connection.sock.fileno(), connection.mask)

    def drop(self, connection: Connection) -> None:
        """Closes it, which tells the engine to stop."""
        fd = connection.sock.fileno()
        if fd in self.open:
            self.poller.unregister(fd)
            del self.open[fd]
            connection.sock.close()
        if connection in self.idle:
            self.idle.remove(connection)

    def close(self) -> None:
        for connection in list(self.open.values()):
            self.drop(connection)
        self.poller.close()


def reason(problem: OSError) -> str:
    """Why a connection failed, in a few words."""
    return ("TLS: " if isinstance(problem, ssl.SSLError) else "") + tls.reason(problem).lower()


def allow_connections() -> None:
    """Raises this process's limit of open files to the maximum: every request in flight needs a connection."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
