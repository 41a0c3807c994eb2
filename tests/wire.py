"""A server that answers every request with scripted bytes, written piece by piece with pauses; a thread."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from harness.driver.address import Address, local

# Bytes to write, or seconds to wait, or None to close the connection.
Script = Sequence[bytes | float | None]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunked(payload: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(payload), payload)


def stream(*events: bytes) -> bytes:
    """A whole response whose events come in one chunk each."""
    return HEAD + b"".join(chunked(e) for e in events) + END


@contextlib.contextmanager
def wire_server(
    script: Callable[[int], Script], tls: ssl.SSLContext | None = None, heard: list[bytes] | None = None
) -> Iterator[Address]:
    """Serves `script(n)` to the n-th request, counting from 0 over all connections; keeps them in `heard`,
    and b"" where a client closed its connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    count = iter(range(1 << 30))
    open_sockets: list[socket.socket] = []

    def serve(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock = tls.wrap_socket(sock, server_side=True) if tls else sock
            open_sockets.append(sock)
            while request := read_request(sock):
                if heard is not None:
                    heard.append(request)
                for step in script(next(count)):
                    if step is None:
                        sock.close()
                        return
                    if isinstance(step, bytes):
                        sock.sendall(step)
                    else:
                        time.sleep(step)
        if heard is not None:
            heard.append(b"")

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                open_sockets.append(sock)
                threading.Thread(target=serve, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield local(listener.getsockname()[1])
    finally:
        listener.close()
        for sock in open_sockets:
            sock.close()


def read_request(sock: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            return b""
        data += more
    head, body = data.split(b"\r\n\r\n", 1)
    named = re.search(rb"\r\ncontent-length: *(\d+)", head.lower())
    while len(body) < (int(named[1]) if named else 0):
        body += sock.recv(65536)
    return head + b"\r\n\r\n" + body
