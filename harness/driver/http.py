"""The bytes of a request, encoded before the clock starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.adapter import Dialect
from harness.driver.address import Address
from harness.driver.job import Job, Order
from harness.workload.schedule import Request, Schedule

Body = Callable[[Request], bytes]


def encode(address: Address, route: str, body: bytes, key: str | None = None) -> bytes:
    """One complete HTTP/1.1 POST request that keeps the connection open."""
    secret = f"Authorization: Bearer {key}\r\n" if key else ""
    head = (
        f"POST {address.target(route)} HTTP/1.1\r\nHost: {address.host_field}\r\n"
        f"Content-Type: application/json\r\n{secret}"
        f"Accept: text/event-stream\r\nContent-Length: {len(body)}\r\nConnection: keep-alive\r\n\r\n"
    )
    return head.encode() + body


@dataclass(frozen=True, slots=True)
class Encoding:
    """How requests are encoded: the route, the body of each, and the API key."""

    route: str
    body: Body
    key: str | None = None


def by_ids(dialect: Dialect) -> Encoding:
    """Prompts as token ids, in an engine's dialect."""
    return Encoding(dialect.route, lambda request: dialect.body(request.prompt_ids, request.output_tokens))


def job_of(address: Address, encoding: Encoding, schedule: Schedule, deadline_s: float) -> Job:
    """The job of sending a schedule, with all requests encoded."""
    orders = (
        Order(
            r.index,
            encode(address, encoding.route, encoding.body(r), encoding.key),
            r.scheduled_s,
            r.after,
            r.think_s,
            r.cancel_after_s,
        )
        for r in schedule.requests
    )
    return Job(
        address=address,
        orders=tuple(orders),
        slots=schedule.slots,
        connections=schedule.connections,
        deadline_s=deadline_s,
        duration_s=schedule.duration_s,
        ramp_s=schedule.ramp_s,
        enough=schedule.enough,
    )
