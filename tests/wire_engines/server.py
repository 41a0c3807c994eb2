"""The HTTP side: a thread per connection, chunked streams, and a log of every write."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.driver.address import Address, local
from harness.model.tokenizer import Texts
from tests.wire import END
from tests.wire_engines.dialect import (
    Answer,
    Asked,
    Page,
    Plan,
    Refused,
    Sent,
    Totals,
    WireDialect,
    dumps,
    generate,
    sse,
    with_faults,
)

PHRASES = {200: "OK", 400: "Bad Request", 404: "Not Found", 422: "Unprocessable Entity", 503: "Service Unavailable"}
PATIENCE_S = 10.0  # of a thread whose client neither speaks nor leaves


@dataclass(frozen=True, slots=True)
class Write:
    """One event on its way: how many tokens it told of first, and the monotonic times (ns) between which
    the kernel took its bytes."""

    tokens: int
    before_ns: int
    after_ns: int


@dataclass(slots=True)
class Served:
    """One generation request: what it said, what was answered, and when each event left."""

    body: dict[str, Any]
    answer: Answer | None = None
    refused: Refused | None = None
    writes: list[Write] = field(default_factory=list)

    @property
    def told(self) -> list[Write]:
        """The writes that brought tokens."""
        return [w for w in self.writes if w.tokens]


class WireServer:
    def __init__(self, dialect: WireDialect, plan: Plan, texts: Texts) -> None:
        self.dialect, self.plan, self.texts = dialect, plan, texts
        self.served: list[Served] = []
        self.totals = Totals()
        self.seen: set[tuple[int, ...]] = set()
        self.lock = threading.Lock()
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.open: list[socket.socket] = []
        self.threads: list[threading.Thread] = []

    @property
    def endpoint(self) -> Address:
        return local(self.listener.getsockname()[1])

    def start(self) -> None:
        if self.plan.listening:
            self.listener.listen()
            self._thread(self._accept)

    def get_ready(self) -> None:
        """Ends the loading."""
        listening = self.plan.listening
        self.plan = dataclasses.replace(self.plan, loading=False, listening=True)
        if not listening:
            self.start()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # close() alone leaves accept() waiting
        self.listener.close()
        for sock in self.open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self.threads:
            thread.join(PATIENCE_S)

    def _thread(self, target: Any, *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                sock.settimeout(PATIENCE_S)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.open.append(sock)
                self._thread(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while (request := _request(sock)) and self._answer(sock, *request):
                pass
        sock.close()

    # -- one request ----------------------------------------------------------------------------------------------

    def _answer(self, sock: socket.socket, method: str, path: str, body: bytes) -> bool:
        """Whether the connection goes on."""
        began = time.monotonic()
        if self.plan.loading:
            return _page(sock, self.dialect.loading())
        if method == "GET":
            return _page(sock, self.dialect.pages(self.plan, self.totals).get(path, self.dialect.missing))
        if path not in self.dialect.routes:
            return _page(sock, self.dialect.missing)
        try:
            served = Served(json.loads(body))
        except ValueError:
            return _page(sock, self.dialect.not_json())
        self.served.append(served)
        try:
            asked = self._asked(path, served.body)
        except Refused as refused:
            served.refused = refused
            if refused.status == 200:
                return self._stream(sock, [Sent(sse(refused.payload, self.dialect.data), 0, -1)], served, began)
            return _page(sock, refusal_page(refused))
        with self.lock:
            answer = served.answer = generate(asked, self.plan, self.texts, self.seen)
            self._count(answer)
        if not asked.stream:
            return _page(sock, (200, {"content-type": "application/json"}, dumps(self.dialect.whole(answer))))
        return self._stream(sock, with_faults(self.dialect, answer), served, began)

    def _asked(self, path: str, body: dict[str, Any]) -> Asked:
        asked = self.dialect.read(path, body, self.plan, self.texts)
        prompt = len(asked.prompt) + self.plan.added_prompt_tokens
        whole = prompt + asked.output_tokens if self.dialect.overlong == "refused" else prompt + 1
        if whole > self.plan.context_tokens:
            raise Refused(*self.dialect.too_long(asked, self.plan))
        if self.plan.fault == "overloaded":
            raise Refused(*self.dialect.overloaded())
        return asked

    def _count(self, answer: Answer) -> None:
        self.totals.requests += 1
        self.totals.prompt_tokens += answer.prompt_tokens
        self.totals.cached_tokens += answer.cached_tokens
        self.totals.output_tokens += len(answer.ids)

    def _stream(self, sock: socket.socket, events: list[Sent], served: Served, began: float) -> bool:
        plan, dialect = self.plan, self.dialect
        head = dialect.head
        if dialect.head_first:
            sock.sendall(head)
            head = b""
        for event in events:
            self._wait(began, event.after)
            before_ns = time.monotonic_ns()
            ends = dialect.ends_with_last and event is events[-1] and plan.fault != "cut"
            for piece in plan.split(head + dialect.chunk(event.data) + (END if ends else b"")):
                sock.sendall(piece)
            served.writes.append(Write(event.tokens, before_ns, time.monotonic_ns()))
            head = b""
        if plan.fault == "cut":
            return False
        if not (dialect.ends_with_last and events):
            sock.sendall(END)
        return True

    def _wait(self, began: float, token: int) -> None:
        due = began + self.plan.ttft_s + self.plan.interval_s * token
        if token >= 0 and (pause := due - time.monotonic()) > 0:
            time.sleep(pause)


def _request(sock: socket.socket) -> tuple[str, str, bytes] | None:
    """Method, path without its query, and body; null where the client has left."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := sock.recv(65536)):
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    method, path, _ = head.split(b"\r\n")[0].decode().split(" ", 2)
    named = re.search(rb"\r\ncontent-length: *(\d+)", head.lower())
    while len(body) < (int(named[1]) if named else 0):
        if not (more := sock.recv(65536)):
            return None
        body += more
    return method, path.partition("?")[0], body


def refusal_page(refused: Refused) -> Page:
    """JSON, or plain text."""
    if isinstance(refused.payload, str):
        return refused.status, {"content-type": "text/plain; charset=utf-8"}, refused.payload.encode()
    return refused.status, {"content-type": "application/json"}, dumps(refused.payload)


def _page(sock: socket.socket, page: Page) -> bool:
    status, headers, body = page
    named: Mapping[str, str] = {"content-length": str(len(body)), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    sock.sendall(f"HTTP/1.1 {status} {PHRASES.get(status, 'Error')}\r\n{lines}\r\n".encode() + body)
    return True


@contextlib.contextmanager
def wire_engine(dialect: WireDialect, plan: Plan, texts: Texts, **changes: Any) -> Iterator[WireServer]:
    """A server in this dialect, until the block is left."""
    server = WireServer(dialect, dataclasses.replace(plan, **changes), texts)
    server.start()
    try:
        yield server
    finally:
        server.stop()
