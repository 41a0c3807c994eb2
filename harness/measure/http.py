"""The bytes of a request, encoded before the clock starts."""

from __future__ import annotations

from collections.abc import Sequence

from harness.adapter import Dialect
from harness.schedule import Schedule


def encode(address: tuple[str, int], route: str, body: bytes) -> bytes:
    """One whole HTTP/1.1 POST request that keeps the connection open."""
    head = (
        f"POST {route} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nContent-Type: application/json\r\n"
        f"Accept: text/event-stream\r\nContent-Length: {len(body)}\r\nConnection: keep-alive\r\n\r\n"
    )
    return head.encode() + body


def encode_schedule(address: tuple[str, int], dialect: Dialect, schedule: Schedule) -> Sequence[bytes]:
    """The requests of a schedule in an engine's dialect, in the schedule's order."""
    return [encode(address, dialect.route, dialect.body(r.prompt_ids, r.output_tokens)) for r in schedule.requests]
