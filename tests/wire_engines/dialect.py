"""What a wire server is told to do, and what a dialect makes of it."""

from __future__ import annotations

import abc
import functools
import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.model.tokenizer import Texts

Fault = Literal["none", "overloaded", "error", "cut"]
BLOCK = 16  # tokens of a prompt that a prefix cache keeps together


def in_one(data: bytes) -> Sequence[bytes]:
    """A response's writes left as they are."""
    return (data,)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the server does with every request: which tokens when, how grouped, and what goes wrong.

    Times are seconds after the request has been read. `groups`: tokens that become ready together, the last
    number again and again to the end of the answer. `hidden`: which tokens, counted from 0, leave a
    character incomplete. `quirks`: things that only this dialect does, by name."""

    version: str
    ttft_s: float = 0.0
    interval_s: float = 0.0
    groups: tuple[int, ...] = (1,)
    hidden: frozenset[int] = frozenset()
    pings: bool = False
    loading: bool = False
    listening: bool = True  # while it loads
    context_tokens: int = 1024
    concurrent_sequences: int = 16
    batched_tokens: int = 2048
    threads: int = 3
    added_prompt_tokens: int = 0  # that the engine puts before the prompt: a BOS
    prefix_cache: bool = False
    stops_early: bool = False  # whatever the request says
    miscounted: int = 0  # tokens too many in the engine's last word on its output
    eos_after: int = 3  # tokens until an answer that may end ends
    fault: Fault = "none"
    fault_after: int = 2  # groups that get through
    quirks: frozenset[str] = frozenset()
    split: Callable[[bytes], Sequence[bytes]] = in_one  # one write into several

    @property
    def kv_tokens(self) -> int:
        return self.context_tokens * self.concurrent_sequences


@dataclass(frozen=True, slots=True)
class Sent:
    """One event: its bytes, how many tokens it is the first to tell of, and the token (from 0) that it has
    to wait for; what a dialect sends before the first token waits for -1."""

    data: bytes
    tokens: int
    after: int


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as its engine understood it."""

    prompt: tuple[int, ...]
    output_tokens: int
    stream: bool
    greedy: bool
    runs_on: bool  # past the end of sequence
    fields: Mapping[str, Any] = field(default_factory=dict)  # the request's own, for what it wants to be told


@dataclass(frozen=True, slots=True)
class Answer:
    """What the engine generates: ids, and their text, where "" is a character that is not complete yet."""

    asked: Asked
    ids: tuple[int, ...]
    texts: tuple[str, ...]
    groups: tuple[range, ...]  # positions of the tokens that become ready together
    finish: Literal["length", "stop"]
    prompt_tokens: int
    cached_tokens: int
    plan: Plan

    @property
    def last_count(self) -> int:
        """The engine's last word on how many tokens it put out."""
        return len(self.ids) + self.plan.miscounted

    def texts_of(self, group: range) -> str:
        return "".join(self.texts[i] for i in group)


class Refused(Exception):
    """The request is answered with this status and JSON, or plain text, instead of a stream."""

    def __init__(self, status: int, payload: Any) -> None:
        super().__init__(status, payload)
        self.status, self.payload = status, payload


@dataclass(slots=True)
class Totals:
    """What the engine's own counters say."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0


Page = tuple[int, dict[str, str], bytes]  # status, headers, body


class WireDialect(abc.ABC):
    """One engine's way to speak. Field and series names are the engine's own."""

    routes: tuple[str, ...]
    tells_cached = True  # in the stream
    tells_ids = True  # of its tokens; else their number comes with the last event
    greedy_by_default = False
    can_group = True  # several tokens in one event
    overlong: Literal["clamped", "refused"] = "clamped"  # prompt and output together longer than the context
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    head_first = False  # sent before the first token is there
    ping = b":\n\n"
    data = b"data: "
    chunk_size = b"%x"  # how it writes the size of a chunk
    ends_with_last = False  # the last event and the end of the body are one write
    quirks: tuple[str, ...] = ()  # of Plan.quirks, those that change how a stream is written, never what it counts
    misstarts: tuple[str, ...] = ()  # those of an engine started so that its counts cannot be read

    @abc.abstractmethod
    def read(self, route: str, body: dict[str, Any], plan: Plan, texts: Texts) -> Asked:
        """The request as the engine takes it; raises Refused."""

    @abc.abstractmethod
    def events(self, answer: Answer) -> Iterator[Sent]:
        """The whole stream."""

    @abc.abstractmethod
    def whole(self, answer: Answer) -> Any:
        """The answer to a request that does not stream, as JSON."""

    @abc.abstractmethod
    def too_long(self, asked: Asked, plan: Plan) -> tuple[int, Any]:
        """Status and JSON for a prompt that does not fit; under 200 it is the stream's only event."""

    @abc.abstractmethod
    def overloaded(self) -> tuple[int, Any]:
        """Status and JSON of an engine that takes no more; under 200 it is the stream's only event."""

    @abc.abstractmethod
    def broken(self, message: str) -> Sequence[bytes]:
        """The events that end a stream that fails under way."""

    @abc.abstractmethod
    def pages(self, plan: Plan, totals: Totals) -> dict[str, Page]:
        """What GET answers, by path."""

    def chunk(self, payload: bytes) -> bytes:
        """A chunk of the body."""
        return self.chunk_size % len(payload) + b"\r\n" + payload + b"\r\n"

    def log(self, plan: Plan) -> list[str]:
        """What it logs of its settings when it starts."""
        return []

    missing: Page = (404, {"content-type": "application/json"}, b'{"detail":"Not Found"}')  # for an unknown path

    def not_json(self) -> Page:
        """What it answers to a body that is not JSON."""
        return 400, {"content-type": "application/json"}, b'{"detail":"not JSON"}'

    def loading(self) -> Page:
        """What an engine that is not ready answers to everything."""
        return 503, {}, b""


# -- shared by the dialects ------------------------------------------------------------------------------------


def sse(payload: Any, start: bytes = b"data: ", end: bytes = b"\n\n") -> bytes:
    return start + dumps(payload) + end


DONE = b"data: [DONE]\n\n"


def dumps(payload: Any) -> bytes:
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()


def json_page(payload: Any, status: int = 200, headers: dict[str, str] | None = None) -> Page:
    return status, {"content-type": "application/json", **(headers or {})}, dumps(payload)


def prometheus(series: Mapping[str, tuple[str, str, float]]) -> Page:
    """Name -> (type, labels, value) as an exposition page; counters are typed by their name without _total."""
    lines = []
    for name, (kind, labels, value) in series.items():
        family = name.removesuffix("_sum") if kind == "histogram" else name
        lines += [f"# HELP {family} x", f"# TYPE {family} {kind}"]
        if kind == "histogram":
            inf = ",".join(filter(None, (labels, 'le="+Inf"')))
            lines += [f"{family}_bucket{{{inf}}} 1", f"{family}_count{{{labels}}} 1"]
        lines.append(f"{name}{{{labels}}} {value}")
    return 200, {"content-type": "text/plain; version=0.0.4"}, ("\n".join(lines) + "\n").encode()


def ids_of(value: Any) -> tuple[int, ...] | None:
    """A flat list of integers, else null."""
    if isinstance(value, list) and value and all(type(i) is int for i in value):
        return tuple(value)
    return None


@functools.cache
def word(texts: Texts, token: int) -> str:
    text: str = texts.tokenizer.decode([token])
    return text


def generate(asked: Asked, plan: Plan, texts: Texts, seen: set[tuple[int, ...]]) -> Answer:
    """The tokens of an answer: of the prompt alone where the request is greedy, else never the same again."""
    length = asked.output_tokens
    finish: Literal["length", "stop"] = "length"
    room = plan.context_tokens - len(asked.prompt) - plan.added_prompt_tokens
    length = min(length, room)
    if (plan.stops_early or not asked.runs_on) and plan.eos_after < length:
        length, finish = plan.eos_after, "stop"
    seed = hashlib.sha256(repr(asked.prompt).encode()).hexdigest() if asked.greedy else None
    rng = random.Random(seed)
    ids = tuple(rng.choice(texts.vocabulary) for _ in range(length))
    written, held = [], ""
    for at, token in enumerate(ids):
        held += word(texts, token)
        written.append("" if at in plan.hidden else held)
        held = held if at in plan.hidden else ""
    cached = 0
    if plan.prefix_cache and asked.prompt in seen:
        cached = (len(asked.prompt) - 1) // BLOCK * BLOCK
    seen.add(asked.prompt)
    counted = len(asked.prompt) + plan.added_prompt_tokens
    return Answer(asked, ids, tuple(written), grouped(length, plan.groups), finish, counted, cached, plan)


def likely(answer: Answer, most: int) -> list[list[tuple[int, float]]]:
    """For each token the `most` likely ones and their log probabilities: its own, then its successors."""
    return [[(token + i, round(-0.5 - i, 4)) for i in range(most)] for token in answer.ids]


def grouped(length: int, sizes: Sequence[int]) -> tuple[range, ...]:
    """Positions 0 to `length` in groups of these sizes, the last one repeated."""
    found: list[range] = []
    start = 0
    while start < length:
        size = sizes[min(len(found), len(sizes) - 1)]
        found.append(range(start, min(start + size, length)))
        start += size
    return tuple(found)


FAULT_MESSAGE = "CUDA error: an illegal memory access was encountered"


def with_faults(wire: WireDialect, answer: Answer) -> list[Sent]:
    """The whole stream as the plan has it: with comment lines, and up to where it fails."""
    plan = answer.plan
    events = list(wire.events(answer))
    if plan.pings:
        events = [s for e in events for s in (Sent(wire.ping, 0, e.after), e)]
    if plan.fault not in ("error", "cut"):
        return events
    last = answer.groups[plan.fault_after - 1][-1]
    through = [e for e in events if e.after <= last]
    error = wire.broken(FAULT_MESSAGE) if plan.fault == "error" else ()
    return [*through, *(Sent(data, 0, last) for data in error)]
