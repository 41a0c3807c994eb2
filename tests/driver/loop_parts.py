"""A whole run of the driver against a server, and schedules for it."""

from harness.adapter import openai_stream
from harness.decode.exchange import decode
from harness.driver.address import Address
from harness.driver.http import encode
from harness.driver.job import Job, Order, Replayed
from harness.driver.loop import replay
from harness.records.request import RequestRecord
from harness.workload.schedule import Request, Schedule
from tests.decode.test_exchange import DONE, EVENTS
from tests.wire import stream

GOOD = stream(*EVENTS, DONE)


def schedule_of(count: int, slots: int | None = None) -> Schedule:
    return Schedule(tuple(Request(i, (1, 2, 3, 4), 5) for i in range(count)), slots)


def run(
    endpoint: Address, schedule: Schedule, deadline_s: float = 5.0, body: bytes = b"{}"
) -> tuple[Replayed, list[RequestRecord]]:
    payload = encode(endpoint, "/x", body)
    orders = tuple(
        Order(r.index, payload, r.scheduled_s, r.after, r.think_s, r.cancel_after_s) for r in schedule.requests
    )
    job = Job(
        address=endpoint,
        orders=orders,
        slots=schedule.slots,
        connections=schedule.connections,
        deadline_s=deadline_s,
        duration_s=schedule.duration_s,
        ramp_s=schedule.ramp_s,
        enough=schedule.enough,
    )
    replayed = replay(job)
    return replayed, sorted(decode([replayed], schedule, openai_stream), key=lambda r: r.index)


def waits(records: list[RequestRecord]) -> list[float]:
    """From the send to the first token, in s, of those that had one."""
    return [got.first_token_s - got.sent_s for got in records if got.first_token_s and got.sent_s is not None]
