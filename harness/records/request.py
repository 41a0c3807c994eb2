"""The record of one request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

ERROR_SHOWN = 600  # characters of an error: ours, around at most 200 bytes of the server's
TEXT_SHOWN = 2000  # characters of an answer's text that are kept


class Chunk(NamedTuple):
    """One read of the socket that carried output tokens. Nanoseconds since the start of the run.

    `arrival_ns` is when the kernel received it (the read time if the kernel did not say), `read_ns` when the driver
    read it; the difference is the client's own lag."""

    arrival_ns: int
    read_ns: int
    tokens: int


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """What happened to one request. Times are seconds since the start of the run; None: did not happen.

    prompt_tokens, reported_tokens and cached_tokens are the engine's counts; output_tokens is the driver's;
    asked_tokens is the schedule's."""

    index: int
    scheduled_s: float | None
    sent_s: float | None
    first_token_s: float | None
    last_token_s: float | None
    done_s: float | None
    prompt_tokens: int | None
    output_tokens: int
    finish_reason: str | None
    status: str  # "ok", "failed", or "cancelled": by its user, as planned
    error: str | None
    http_status: int | None
    uploaded_s: float | None  # the last request byte was handed to the kernel
    connect_s: float | None  # seconds that setting up the connection took; not part of any latency
    sent_tokens: int  # prompt ids in the request
    asked_tokens: int
    reported_tokens: int | None
    first_event_tokens: int | None
    cached_tokens: int | None
    due_s: float | None = None  # scheduled, or when what it waited for ended; None: whenever a slot was free
    # How output_tokens was counted: "ids", "running usage", "final usage" (spread over the events that carried text),
    # "events" (one token each: the engine reported no count), or "none" (no output).
    count_source: str = "none"
    output_ids: tuple[int, ...] = ()  # of a few requests, if the engine streams them
    output_text: str | None = None  # of the same requests where prompts are real text: what the engine streamed
    reads: int = 0  # reads of the socket that the response took
    stamped_reads: int = 0  # how many of them have the kernel's arrival time; the others use the read time
    chunks: tuple[Chunk, ...] = ()
