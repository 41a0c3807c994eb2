"""Verifies a running engine instead of trusting its flags, and notes its answer to a fixed prompt."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from harness.adapter import Engine, LogLine, TritonDialect
from harness.campaign.pages import increase, read_counters, read_fact
from harness.campaign.target import Line
from harness.decode.events import events_of
from harness.driver.address import Address
from harness.errors import CannotStart
from harness.records.request import RequestRecord
from harness.workload.schedule import Request, Schedule, draw

PROBE_SEED = "probe"
ANSWER_PROMPT_TOKENS = 32
ANSWER_TOKENS = 256
CACHE = "prefix_cache"
# Settings that an engine could have changed on its own.
SHOWABLE = (
    "context_tokens",
    "concurrent_sequences",
    "batched_tokens",
    "kv_tokens",
    "dtype",
    "kv_dtype",
    CACHE,
    "threads",
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a running engine can be asked: its requests, its pages, its log."""

    line: Line
    pages: Address
    log: Path | None = None


def verify(
    place: Place, engine: Engine, asked: Mapping[str, Any], vocabulary: Sequence[int], lead: Sequence[int] = ()
) -> dict[str, Any]:
    """Version, the settings that it shows, and two identical streamed requests: counts reported = counts sent,
    length honoured, nothing from a cache that is declared off. `asked`: the settings table.

    Returns what was seen, with the settings it runs with in `settings`, those that it does not show in
    `unverified`, and the greedy continuation of a fixed prompt in `answer_ids`. Raises CannotStart for the first
    thing that is not as asked and would make it another measurement."""
    version = _version(place, engine)
    shown = read_settings(place, engine)
    context = shown.get("context_tokens")
    if context is not None and context < asked["context_tokens"]:
        raise CannotStart(f"has a context of {context} tokens, not {asked['context_tokens']} as asked")
    rng = random.Random(PROBE_SEED)
    length = max(1, min(16, asked["context_tokens"] // 4))
    schedule = Schedule((Request(0, draw(rng, vocabulary, 2 * length, lead), length),), 1)
    first = _one(place.line, schedule)
    before = read_counters(place.pages, engine)
    second = _one(place.line, schedule)
    for record in (first, second):
        _check_counts(record)
    cached = second.cached_tokens
    if cached is None:
        counted = increase(before, read_counters(place.pages, engine)).get("cached_tokens")
        cached = None if counted is None else int(counted)
    if not asked[CACHE] and cached:
        raise CannotStart(f"answered {cached} prompt tokens from its prefix cache, which is declared off")
    room = min(ANSWER_TOKENS, asked["context_tokens"] - ANSWER_PROMPT_TOKENS)
    prompt = draw(rng, vocabulary, ANSWER_PROMPT_TOKENS, lead)
    return {
        "version": version,
        "settings": shown,
        "unverified": [name for name in SHOWABLE if name not in shown and not (name == CACHE and cached is not None)],
        "prompt_tokens": second.prompt_tokens,
        "output_tokens": second.output_tokens,
        "count_source": second.count_source,
        "cached_tokens": cached,
        "first_token_s": (first.first_token_s or 0.0) - (first.sent_s or 0.0),
        "answer_ids": list(answer(place.line, prompt, room)) if room > 0 else [],
    }


def _version(place: Place, engine: Engine) -> str:
    """Raises CannotStart where it is not the pinned one. Empty where the engine does not tell it."""
    if engine.version_reading is None:
        return ""
    version = str(read_fact(place.pages, engine.version_reading, "version"))
    if not re.search(engine.version_matches, version):
        raise CannotStart(f"is version {version}, not the pinned {engine.version}")
    return version


def read_settings(place: Place, engine: Engine) -> dict[str, int]:
    """The settings that the engine shows, as it runs with them; only the context is required to be shown where
    its file says where."""
    shown = {}
    for name, where in engine.facts.items():
        if isinstance(where, LogLine):
            text = place.log.read_text(errors="replace") if place.log else ""
            if found := re.findall(where.pattern, text):
                shown[name] = int(found[-1].replace(",", ""))  # the last holds: some try a setting out before
        else:
            value = read_fact(place.pages, where, name.replace("_", " "))
            if not isinstance(value, int):
                raise CannotStart(f"tells {value!r} as its {name.replace('_', ' ')} at {where.path}")
            shown[name] = value
    return shown


def _one(line: Line, schedule: Schedule) -> RequestRecord:
    (record,) = line.replay(schedule).records
    return record


def _check_counts(record: RequestRecord) -> None:
    if record.error:
        raise CannotStart(f"failed the probe request: {record.error}")
    told = record.count_source != "events"  # else one event counted as one token, and a token may have none
    if not record.output_tokens or (told and record.output_tokens != record.asked_tokens):
        raise CannotStart(f"returned {record.output_tokens} tokens to a request for {record.asked_tokens}")
    if record.reported_tokens not in (None, record.output_tokens):
        raise CannotStart(f"reports {record.reported_tokens} output tokens but sent {record.output_tokens}")
    if record.prompt_tokens not in (None, record.sent_tokens):
        raise CannotStart(f"counts {record.prompt_tokens} prompt tokens where {record.sent_tokens} were sent")


def answer(line: Line, prompt: Sequence[int], length: int) -> tuple[int, ...]:
    """Token ids of a greedy continuation, asked in the way that hides none; empty where none are shown."""
    dialect = line.dialect
    if isinstance(dialect, TritonDialect):
        return ()
    try:
        response = httpx.post(
            line.endpoint.url + dialect.route,
            content=dialect.body(line.prompt(prompt), length, stream=False),
            headers={"Content-Type": "application/json"},
            timeout=line.deadline_s,
            trust_env=False,
            verify=False,
        )
        response.raise_for_status()
        if response.headers["content-type"].startswith("text/event-stream"):
            events = [dialect.parse(data) for data in events_of(response.content)]
        else:
            events = [dialect.parse(response.content)]
        if errors := [event.error for event in events if event.error]:
            raise CannotStart(f"failed the answer probe: {errors[0]}")
        ids = tuple(token for event in events for token in event.ids)
    except (httpx.HTTPError, ValueError) as problem:
        raise CannotStart(f"failed the answer probe: {problem}") from None
    if ids and len(ids) != length:  # the only sign of a context that is too small, of an engine that does not tell it
        raise CannotStart(f"answered {len(prompt)} prompt tokens with {len(ids)} of {length} tokens")
    return ids
