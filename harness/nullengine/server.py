"""The null server: an OpenAI completions and chat server without a model. It emits tokens on a schedule and logs when
it really wrote them.

What a client should measure is known beforehand: the first token `--ttft` seconds after the request arrived, then one
every `--interval` seconds, at any concurrency. `GET /truth` returns and clears the log of what really happened: one
JSON line for each stream that has ended since, times in monotonic nanoseconds of this machine.
    {"key": hex of blake2b(body, digest_size=8), "arrived_ns": when the kernel had the last of the request,
     "write_ns": [just before the send of each token], "cut": true where the client closed the connection first}
The head and a chat's role event are sent with the first token, the end of the stream with the last one, so that each
token is one send. An answer that is not streamed is sent at once and not logged. Token ids are a fixed walk through
the vocabulary that depends on the prompt alone.

One thread, one poller. The interval is the same for all streams, so a queue keeps their next tokens in the order of
their due times."""

from __future__ import annotations

import argparse
import contextlib
import errno
import gc
import hashlib
import heapq
import os
import resource
import socket
import sys
import time
from collections import deque

from harness import __version__
from harness.driver.clock import CONTROL_BYTES, arrival, clock_lead, stamp_arrivals
from harness.driver.poller import READ, WRITE, new_poller
from harness.nullengine.answer import Answer, ClientConnection
from harness.nullengine.truth import TruthLog
from harness.nullengine.wire import (
    CompletionRequest,
    Head,
    Refused,
    answer_shape,
    page,
    parse_body,
    parse_head,
    whole_answer,
)

READ_BYTES = 1 << 16  # of one recv: a prompt of 300 kB must not delay the tokens of other streams
HEAD_BYTES = 1 << 16
WRITES_BETWEEN_POLLS = 64
# Under load a wake-up for every token costs as much as the token; waiting this long handles several at once.
# After a longer idle time, a token is sent the moment it is due.
WAKE_NS = 200_000

_mono = time.monotonic_ns


class NullServer:
    """Serves until the process ends. Delays in seconds."""

    def __init__(self, port: int, ttft_s: float, interval_s: float, context_tokens: int) -> None:
        self.ttft_ns, self.interval_ns = round(ttft_s * 1e9), round(interval_s * 1e9)
        self.context_tokens = context_tokens
        self.listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self.listener.setblocking(False)
        self.poller = new_poller()
        self.poller.register(self.listener.fileno(), READ)
        self.listening = True
        self.connections: dict[int, ClientConnection] = {}
        self.first: list[tuple[int, int, Answer]] = []  # a heap: requests are not read in the order of arrival
        self.following: deque[Answer] = deque()
        self.truth = TruthLog()
        self.ready: deque[ClientConnection] = deque()  # with a pipelined request that is waiting
        self.served = self.written = 0
        self.lead_ns = clock_lead()

    def serve(self, until_eof: bool = False) -> None:
        """Serves forever; with `until_eof`, until standard input closes."""
        stdin = sys.stdin.fileno() if until_eof else -1
        if until_eof:
            self.poller.register(stdin, READ)
        # A garbage collection of some milliseconds would make tokens late.
        gc.collect()
        gc.freeze()
        gc.disable()
        listener, connections = self.listener.fileno(), self.connections
        until: int | None = None
        while True:
            events = self.poller.wait(until)
            woke, self.lead_ns = _mono(), clock_lead()
            for fd, mask in events:
                connection = connections.get(fd)
                if connection is not None:
                    if mask & WRITE:
                        self._flush(connection)
                    if mask & ~WRITE and connections.get(fd) is connection:
                        self._receive(connection)
                elif fd == listener:
                    self._accept()
                elif fd == stdin and not os.read(stdin, 4096):
                    return
                self._write_due()
            while self.ready:
                connection = self.ready.popleft()
                if connections.get(connection.fd) is connection and connection.head is None:
                    self._take(connection, _mono())
            if self._write_due() or self.ready:
                until = 0
            else:
                due = self._next_due()
                until = due if due is None else max(due, woke + WAKE_NS)

    # -- tokens -----------------------------------------------------------------------------------------

    def _next_due(self) -> int | None:
        first, following = self.first, self.following
        if first and following:
            return min(first[0][0], following[0].due_ns)
        return first[0][0] if first else following[0].due_ns if following else None

    def _write_due(self) -> bool:
        """Writes the tokens that are due; returns true if it stopped early, to check for requests in between.

        Tokens are written in the order of their due times, so the tokens due one interval later are in order too."""
        first, following, step = self.first, self.following, self.interval_ns
        now = _mono()
        written = 0
        while written < WRITES_BETWEEN_POLLS:
            if following and not (first and first[0][0] < following[0].due_ns):
                if following[0].due_ns > now:
                    break
                answer = following.popleft()
            elif first and first[0][0] <= now:
                answer = heapq.heappop(first)[2]
            else:
                break
            connection = answer.connection
            if connection is None:
                continue
            written += 1
            data = answer.next_token()
            answer.at += 1
            # Due times follow the plan, not the actual writes: a late token does not delay the next one.
            answer.due_ns += step
            ended = answer.at > answer.final
            if not ended:
                following.append(answer)
            # Taken after the formatting, or the server's own work would count as the client's error.
            now = _mono()
            answer.write_ns.append(now)
            if connection.out:
                connection.out += data
                continue
            try:
                sent = answer.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._close(connection)
                continue
            if sent != len(data):
                self._queue(connection, data[sent:])
            elif ended:
                self._finished(connection)
        self.written += written
        return written == WRITES_BETWEEN_POLLS

    def _finished(self, connection: ClientConnection) -> None:
        """Called when the kernel has taken all of a response."""
        if connection.answer is not None:
            self.truth.add(connection.answer, cut=False)
            connection.answer = None
        close = connection.head is not None and connection.head.close
        connection.head, connection.body, connection.have = None, b"", 0
        if connection.deaf:
            # Closing with unread bytes resets the connection, and the client would not get the refusal just sent.
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_WR)
        elif close:
            self._close(connection)
        elif connection.pending:
            self.ready.append(connection)

    # -- connections ------------------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            while True:
                sock, _ = self.listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                stamp_arrivals(sock)
                self.connections[sock.fileno()] = ClientConnection(sock, sock.fileno())
                self.poller.register(sock.fileno(), READ)
        except OSError as problem:
            if problem.errno in (errno.EMFILE, errno.ENFILE):  # wait until one closes instead of spinning
                self.poller.unregister(self.listener.fileno())
                self.listening = False

    def _close(self, connection: ClientConnection) -> None:
        if self.connections.pop(connection.fd, None) is None:
            return
        if connection.answer is not None:
            self.truth.add(connection.answer, cut=True)
            connection.answer = None
        self.poller.unregister(connection.fd)
        connection.sock.close()
        if not self.listening:
            self.poller.register(self.listener.fileno(), READ)
            self.listening = True

    def _send(self, connection: ClientConnection, data: bytes) -> None:
        """Sends a complete response."""
        try:
            sent = connection.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(connection)
            return
        if sent != len(data):
            self._queue(connection, data[sent:])
        else:
            self._finished(connection)

    def _queue(self, connection: ClientConnection, rest: bytes) -> None:
        connection.out += rest
        self.poller.modify(connection.fd, READ | WRITE)

    def _flush(self, connection: ClientConnection) -> None:
        try:
            # Not all that waits: it would be copied again for every few kilobytes that fit.
            with memoryview(connection.out) as out:
                sent = connection.sock.send(out[: 1 << 18])
        except BlockingIOError:
            return
        except OSError:
            self._close(connection)
            return
        del connection.out[:sent]
        if not connection.out:
            self.poller.modify(connection.fd, READ)
            if connection.answer is None or connection.answer.at > connection.answer.final:
                self._finished(connection)

    # -- requests ---------------------------------------------------------------------------------------

    def _receive(self, connection: ClientConnection) -> None:
        try:
            if connection.head is None or connection.busy() or connection.deaf:
                data: bytes | memoryview
                data, stamps, _, _ = connection.sock.recvmsg(READ_BYTES, CONTROL_BYTES)
            else:
                data = memoryview(connection.body)[connection.have : connection.have + READ_BYTES]
                size, stamps, _, _ = connection.sock.recvmsg_into([data], CONTROL_BYTES)
                data = data[:size]
        except BlockingIOError:
            return
        except OSError:
            data, stamps = b"", []
        now = _mono()
        # The kernel's time: the request has arrived even if the server is late to read it.
        arrived_ns = arrival(stamps[0][2] if stamps else None, self.lead_ns, now) or now
        if not data:
            self._close(connection)
        elif connection.deaf:
            return
        elif connection.busy():  # a pipelined request: handled after this answer
            connection.pending += data
            if len(connection.pending) > HEAD_BYTES:
                self._close(connection)
        elif connection.head is None:
            connection.pending += data
            self._take(connection, arrived_ns)
        else:
            self._more_body(connection, data, arrived_ns)

    def _take(self, connection: ClientConnection, arrived_ns: int) -> None:
        """Reads the head, and the body as far as it has arrived, from the pending bytes."""
        pending = connection.pending
        end = pending.find(b"\r\n\r\n")
        if end < 0:
            if len(pending) > HEAD_BYTES:
                self._refuse(connection, Refused("431 Request Header Fields Too Large", "the head has no end"))
            return
        try:
            head = parse_head(bytes(pending[:end]))
        except Refused as problem:
            self._refuse(connection, problem)
            return
        data = bytes(pending[end + 4 : end + 4 + head.length])
        connection.pending = pending[end + 4 + head.length :]
        connection.head = head
        connection.hash = hashlib.blake2b(digest_size=8)
        connection.have = 0
        if len(data) == head.length:
            connection.body = data
        else:
            # Allocated at once: appending piece by piece would copy a long prompt over and over.
            connection.body = bytearray(head.length)
            connection.body[: len(data)] = data
            if head.waits:
                with contextlib.suppress(OSError):  # the next read will see that the connection is closed
                    connection.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._more_body(connection, data, arrived_ns)

    def _more_body(self, connection: ClientConnection, data: bytes | memoryview, arrived_ns: int) -> None:
        # Hashed piece by piece: hashing a long prompt at once would delay tokens by another millisecond.
        connection.hash.update(data)
        connection.have += len(data)
        head = connection.head
        if head is None or connection.have < head.length:
            return
        connection.key = connection.hash.hexdigest()
        try:
            self._answer(connection, head, arrived_ns)
        except Refused as problem:
            self._send(connection, page({"error": {"message": str(problem)}}, problem.status))

    def _refuse(self, connection: ClientConnection, problem: Refused) -> None:
        """Refuses a request of unknown length: the next request cannot be told from its body."""
        connection.deaf, connection.pending = True, bytearray()
        error = {"error": {"message": str(problem)}}
        self._send(connection, page(error, problem.status, extra="Connection: close\r\n"))

    def _answer(self, connection: ClientConnection, head: Head, arrived_ns: int) -> None:
        if head.method == "POST" and head.path in ("/v1/completions", "/v1/chat/completions"):
            self._complete(connection, parse_body(connection.body, "chat" in head.path), arrived_ns)
            return
        if head.path == "/truth":
            self._send(connection, self.truth.tell())
            return
        if head.path == "/metrics":
            series = (
                b"# TYPE null:requests counter\nnull:requests_total %d\n"
                b"# TYPE null:tokens counter\nnull:tokens_total %d\n"
                b"# TYPE null:running gauge\nnull:running %d\n"
                % (self.served, self.written, len(self.first) + len(self.following))
            )
            self._send(connection, page(series, "200 OK", "text/plain; version=0.0.4"))
            return
        model = {"id": "bench", "object": "model", "max_model_len": self.context_tokens}
        pages: dict[str, object] = {
            "/health": b"",
            "/version": {"version": __version__},
            "/v1/models": {"object": "list", "data": [model]},
        }
        if head.path not in pages:
            raise Refused("404 Not Found", "no such page")
        self._send(connection, page(pages[head.path]))

    def _complete(self, connection: ClientConnection, asked: CompletionRequest, arrived_ns: int) -> None:
        if asked.prompt_tokens + asked.length > self.context_tokens:
            message = f"{asked.prompt_tokens} + {asked.length} tokens exceed the context of {self.context_tokens}"
            raise Refused("400 Bad Request", message)
        connection.body = b""  # up to 300 kB, no longer needed
        self.served += 1
        if not asked.stream:
            self.written += asked.length
            self._send(connection, whole_answer(asked, self.served))
            return
        due_ns = arrived_ns + self.ttft_ns
        connection.answer = Answer(connection, asked, answer_shape(asked, self.served), arrived_ns, due_ns)
        heapq.heappush(self.first, (due_ns, self.served, connection.answer))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ttft", type=float, required=True, help="seconds to the first token")
    parser.add_argument("--interval", type=float, required=True, help="seconds between tokens")
    parser.add_argument("--context", type=int, required=True, help="tokens of prompt and output together")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input closes")
    asked = parser.parse_args()
    # Every stream needs a connection, and the usual soft limit is 1,024 files.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        NullServer(asked.port, asked.ttft, asked.interval, asked.context).serve(asked.until_eof)
    except PermissionError:
        parser.error("--until-eof needs a pipe or a terminal as standard input, not a file")


if __name__ == "__main__":
    main()
