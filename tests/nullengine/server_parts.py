"""A null server of its own process, requests to it, and what it logged."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from harness.launch.running import free_port

TTFT_NS, INTERVAL_NS = 20_000_000, 5_000_000
PLAN = ("--ttft", "0.020", "--interval", "0.005", "--context", "100000")
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
LATE_NS = 10_000_000  # what a loaded test machine may add to a token's due time
Address = tuple[str, int]


@contextlib.contextmanager
def null_server(*flags: str, before: str = "pass") -> Iterator[Address]:
    with null_process(*flags, before=before) as (_, address):
        yield address


@contextlib.contextmanager
def null_process(*flags: str, before: str = "pass") -> Iterator[tuple[int, Address]]:
    """The server's process id and address; it must live until its standard input closes, and end then."""
    port = free_port()
    start = f"import harness.nullengine.server as n; {before}; n.main()"
    command = [sys.executable, "-c", start, "--port", str(port), *flags, "--until-eof"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stderr is not None
        until = time.monotonic() + 30
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.01)
        try:
            yield process.pid, ("127.0.0.1", port)
            assert process.poll() is None, "the server did not survive"
        finally:
            process.stdin.close()
            try:
                process.wait(30)
            finally:
                process.kill()
        assert (process.returncode, process.stderr.read()) == (0, "")


def encoded(fields: object) -> bytes:
    return fields if isinstance(fields, bytes) else json.dumps(fields, separators=(",", ":")).encode()


def request(body: bytes, route: str = COMPLETIONS, fields: str = "") -> bytes:
    return f"POST {route} HTTP/1.1\r\nHost: null\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode() + body


def post(address: Address, fields: object, route: str = COMPLETIONS) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*address, timeout=30)
    connection.request("POST", route, encoded(fields))
    response = connection.getresponse()
    try:
        return response.status, response.read()
    finally:
        connection.close()


def truth(address: Address) -> list[dict[str, Any]]:
    connection = http.client.HTTPConnection(*address, timeout=30)
    connection.request("GET", "/truth")
    lines = connection.getresponse().read().splitlines()
    connection.close()
    return [json.loads(line) for line in lines]


def events(body: bytes) -> list[dict[str, Any]]:
    parts = body.decode().split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""]
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]


def asking(**fields: object) -> dict[str, object]:
    return {"prompt": [1, 2, 3], "max_tokens": 3, "stream": True, **fields}


def lateness(entry: dict[str, Any], ttft_ns: int = TTFT_NS, interval_ns: int = INTERVAL_NS) -> list[int]:
    """Nanoseconds by which each token of a stream left after its due time."""
    return [at - (entry["arrived_ns"] + ttft_ns + i * interval_ns) for i, at in enumerate(entry["write_ns"])]


def within(limit_ns: float, measure: Callable[[], float]) -> bool:
    """In one of five tries: other work on the machine makes a server late now and then, its own fault always."""
    return any(measure() < limit_ns for _ in range(5))


def received_stream(sock: socket.socket) -> bytes:
    sock.settimeout(30)
    data = bytearray()
    while not data.endswith(b"0\r\n\r\n"):
        more = sock.recv(1 << 16)
        assert more, data
        data += more
    return bytes(data)
