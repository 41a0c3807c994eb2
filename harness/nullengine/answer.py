"""One unfinished answer of the null server, and its connection."""

from __future__ import annotations

import socket
from array import array
from dataclasses import dataclass, field
from typing import Any

from harness.nullengine.wire import VOCABULARY, AnswerShape, CompletionRequest, Head, chunk


class Answer:
    """An unfinished stream: its token `at` is due at `due_ns`."""

    __slots__ = (
        *("arrived_ns", "asked", "at", "connection", "due_ns", "final", "key"),
        *("prompt_tokens", "send", "shape", "start", "token", "write_ns"),
    )

    def __init__(
        self, connection: ClientConnection, asked: CompletionRequest, shape: AnswerShape, arrived_ns: int, due_ns: int
    ) -> None:
        self.connection: ClientConnection | None = connection  # None: the client is gone
        self.asked, self.shape, self.key = asked, shape, connection.key
        self.arrived_ns, self.due_ns = arrived_ns, due_ns
        self.send = connection.sock.send
        self.at, self.final = 0, asked.length - 1
        self.token, self.start, self.prompt_tokens = shape.token, asked.start, asked.prompt_tokens
        self.write_ns = array("q")

    def next_token(self) -> bytes:
        """The bytes of the token `at`."""
        at, shape = self.at, self.shape
        event = shape.last if at == self.final else self.token
        if shape.numbers == 3:
            event = event % ((self.start + 2049 * at) % VOCABULARY, at + 1, self.prompt_tokens + at + 1)
            data = b"%x\r\ndata: %s\n\n\r\n" % (len(event) + 8, event)
        elif shape.numbers == 2:
            data = chunk(event % (at + 1, self.prompt_tokens + at + 1))
        else:
            data = event
        if at == 0:
            data = shape.before + data
        return data + shape.after if at == self.final else data


@dataclass(slots=True, eq=False)
class ClientConnection:
    """A socket, the request that is coming in and the answer that is going out."""

    sock: socket.socket
    fd: int
    pending: bytearray = field(default_factory=bytearray)  # received, not yet part of a request
    head: Head | None = None
    body: bytes | bytearray = b""
    have: int = 0  # bytes of the body
    hash: Any = None
    key: str = ""
    answer: Answer | None = None
    out: bytearray = field(default_factory=bytearray)  # not sent yet, because the client's window was full
    deaf: bool = False  # refused: everything else is discarded until the client closes

    def busy(self) -> bool:
        return self.answer is not None or bool(self.out)
