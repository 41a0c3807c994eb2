"""The null server: speaks the OpenAI completions stream and emits tokens on a schedule instead of thinking.

What the driver reports of it is known beforehand: the first token `--ttft` seconds after the request was
read, then one every `--interval` seconds, whatever the concurrency. One thread, one epoll, one heap of due
times; token ids are a fixed walk through the vocabulary that depends on the prompt alone."""

from __future__ import annotations

import argparse
import contextlib
import heapq
import json
import select
import socket
import time
from dataclasses import dataclass

from harness import __version__

VOCABULARY = 8192
DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(slots=True)
class Answer:
    """A stream under way: the token ids still to be written start at `at`."""

    sock: socket.socket
    ids: list[int]
    prompt_tokens: int
    at: int = 0


def walk(prompt: list[int], length: int) -> list[int]:
    """The ids that this server answers `prompt` with."""
    start = sum(prompt) + len(prompt)
    return [(start + 2049 * i) % VOCABULARY for i in range(length)]


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, object]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def chunk(payload: object) -> bytes:
    """One server-sent event as one HTTP chunk."""
    event = b"data: " + json.dumps(payload, separators=(",", ":")).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(event), event)


def plain(status: str, payload: object) -> bytes:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


class NullServer:
    """Serves until the process ends."""

    def __init__(self, port: int, ttft_s: float, interval_s: float, context_tokens: int) -> None:
        self.ttft_s, self.interval_s, self.context_tokens = ttft_s, interval_s, context_tokens
        self.listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self.listener.setblocking(False)
        self.epoll = select.epoll()
        self.epoll.register(self.listener.fileno(), select.EPOLLIN)
        self.received: dict[int, tuple[socket.socket, bytes]] = {}
        self.due: list[tuple[float, int, Answer]] = []
        self.served = self.written = 0

    def serve(self) -> None:
        while True:
            wait = self.due[0][0] - time.monotonic() if self.due else 1.0
            for fd, _ in self.epoll.poll(max(0.0, wait)):
                if fd == self.listener.fileno():
                    self._accept()
                else:
                    self._receive(fd)
            now = time.monotonic()
            while self.due and self.due[0][0] <= now:
                at, order, answer = heapq.heappop(self.due)
                if self._write_token(answer):
                    # Due times follow the plan, not the writing: a late token does not delay the next.
                    heapq.heappush(self.due, (at + self.interval_s, order, answer))

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = self.listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.received[sock.fileno()] = (sock, b"")
                self.epoll.register(sock.fileno(), select.EPOLLIN)

    def _close(self, fd: int) -> None:
        if fd in self.received:
            self.epoll.unregister(fd)
            self.received.pop(fd)[0].close()

    def _receive(self, fd: int) -> None:
        sock, before = self.received[fd]
        try:
            data = sock.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(fd)
            return
        whole = before + data
        end = whole.find(b"\r\n\r\n")
        head = whole[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n")[0]) if at >= 0 else 0
        if end < 0 or len(whole) < end + 4 + length:
            self.received[fd] = (sock, whole)
            return
        self.received[fd] = (sock, b"")
        method, path, _ = whole[:end].split(b"\r\n")[0].split(b" ", 2)
        self._answer(sock, method.decode(), path.decode(), whole[end + 4 : end + 4 + length])

    def _answer(self, sock: socket.socket, method: str, path: str, body: bytes) -> None:
        if method == "POST" and path == "/v1/completions":
            self._complete(sock, json.loads(body))
            return
        pages: dict[str, object] = {
            "/health": b"",
            "/version": {"version": __version__},
            "/v1/models": {"data": [{"id": "bench", "max_model_len": self.context_tokens}]},
            "/metrics": b"# TYPE null:requests counter\nnull:requests_total %d\n"
            b"# TYPE null:tokens counter\nnull:tokens_total %d\n" % (self.served, self.written),
        }
        known = path in pages
        sock.send(plain("200 OK" if known else "404 Not Found", pages.get(path, {"error": "no such page"})))

    def _complete(self, sock: socket.socket, asked: dict[str, object]) -> None:
        prompt, length = asked["prompt"], asked["max_tokens"]
        assert isinstance(prompt, list) and isinstance(length, int)
        self.served += 1
        if len(prompt) + length > self.context_tokens:
            message = f"{len(prompt)} + {length} tokens exceed the context of {self.context_tokens}"
            sock.send(plain("400 Bad Request", {"error": {"message": message}}))
            return
        ids = walk(prompt, length)
        if asked.get("stream"):
            heapq.heappush(self.due, (time.monotonic() + self.ttft_s, self.served, Answer(sock, ids, len(prompt))))
            return
        choice = {"text": "", "token_ids": ids, "finish_reason": "length"}
        sock.send(plain("200 OK", {"choices": [choice], "usage": usage(len(prompt), length)}))

    def _write_token(self, answer: Answer) -> bool:
        """Writes the next token; false when it was the last or nobody listens any more."""
        last = answer.at + 1 == len(answer.ids)
        choice = {
            "text": " x",
            "token_ids": [answer.ids[answer.at]],
            "finish_reason": "length" if last else None,
        }
        data = chunk({"choices": [choice], "usage": usage(answer.prompt_tokens, answer.at + 1)})
        data = STREAM_HEAD + data if answer.at == 0 else data
        answer.at += 1
        try:
            answer.sock.send(data + DONE if last else data)
        except OSError:
            return False
        self.written += 1
        return not last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ttft", type=float, required=True, help="seconds to the first token")
    parser.add_argument("--interval", type=float, required=True, help="seconds between tokens")
    parser.add_argument("--context", type=int, required=True, help="tokens of prompt and output together")
    asked = parser.parse_args()
    NullServer(asked.port, asked.ttft, asked.interval, asked.context).serve()


if __name__ == "__main__":
    main()
