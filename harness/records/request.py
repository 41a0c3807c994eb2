"""What happened to one request, and the columns in which it is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Chunk(NamedTuple):
    """One read of the socket that carried output tokens. Nanoseconds since the start of the run.

    `arrival_ns` is when the kernel received it (the read time where the kernel gave none), `read_ns` when
    the driver got round to it; their difference is the client's own lag."""

    arrival_ns: int
    read_ns: int
    tokens: int


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """What happened to one request. Times are seconds since the start of the run; None: did not happen.

    prompt_tokens, reported_tokens and cached_tokens are what the engine said; output_tokens is what the
    driver saw; asked_tokens is what the schedule wanted."""

    index: int
    scheduled_s: float | None
    sent_s: float | None
    first_token_s: float | None
    last_token_s: float | None
    done_s: float | None
    prompt_tokens: int | None
    output_tokens: int
    finish_reason: str | None
    status: str  # "ok", "failed", or "cancelled": given up by its user as the schedule said
    error: str | None
    http_status: int | None
    uploaded_s: float | None  # the last request byte was handed to the kernel
    connect_s: float | None  # seconds that setting up the connection took; not part of any latency
    sent_tokens: int  # prompt ids in the request
    asked_tokens: int
    reported_tokens: int | None
    first_event_tokens: int | None
    cached_tokens: int | None
    due_s: float | None = None  # by its schedule, or by the end of what it waited for; None: whenever a slot was free
    # What output_tokens was counted by: "ids", "running usage", "final usage" (spread over the events that
    # carried text), "events" (one each: the engine told no count), or "none" (no output came).
    count_source: str = "none"
    reads: int = 0  # reads of the socket that the response took
    stamped_reads: int = 0  # of them, those whose arrival the kernel stamped; the others arrived when read
    chunks: tuple[Chunk, ...] = ()
