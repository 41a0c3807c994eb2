"""Verifies a running engine instead of trusting its flags, and notes its answer to a fixed prompt."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

import httpx

from harness.adapter import Engine, Profile
from harness.errors import CannotStart
from harness.measure.decode import decode
from harness.measure.driver import replay
from harness.measure.endpoint import Endpoint
from harness.measure.http import job_of
from harness.measure.pages import read_fact
from harness.records import RequestRecord
from harness.schedule import Request, Schedule

PROBE_SEED = "probe"
ANSWER_PROMPT_TOKENS = 32
ANSWER_TOKENS = 256


def verify(
    endpoint: Endpoint, engine: Engine, profile: Profile, vocabulary: Sequence[int], deadline_s: float
) -> dict[str, Any]:
    """Version, context, and two identical streamed requests: counts reported = counts sent, length
    honoured, nothing from a cache that is declared off. Raises CannotStart for the first that fails.

    Returns what was seen, with the greedy continuation of a fixed prompt in `answer_ids`."""
    version = str(read_fact(endpoint, engine.version_reading, "version"))
    if not re.search(engine.version_matches, version):
        raise CannotStart(f"is version {version}, not the pinned {engine.version}")
    context = int(read_fact(endpoint, engine.context_reading, "context length"))
    if context < profile.context_tokens:
        raise CannotStart(f"has a context of {context} tokens, not {profile.context_tokens} as asked")
    rng = random.Random(PROBE_SEED)
    length = max(1, min(16, profile.context_tokens // 4))
    request = Request(0, tuple(rng.choices(vocabulary, k=2 * length)), length)
    schedule = Schedule((request,), 1)
    first, second = (_one(endpoint, engine, schedule, deadline_s) for _ in range(2))
    for record in (first, second):
        _check_counts(record)
    if not profile.prefix_cache and second.cached_tokens:
        raise CannotStart(f"answered {second.cached_tokens} prompt tokens from its prefix cache, which is declared off")
    prompt = rng.choices(vocabulary, k=ANSWER_PROMPT_TOKENS)
    room = min(ANSWER_TOKENS, profile.context_tokens - ANSWER_PROMPT_TOKENS)
    return {
        "version": version,
        "context_tokens": context,
        "prompt_tokens": second.prompt_tokens,
        "output_tokens": second.output_tokens,
        "cached_tokens": second.cached_tokens,
        "first_token_s": (first.first_token_s or 0.0) - (first.sent_s or 0.0),
        "answer_ids": list(answer(endpoint, engine, prompt, room, deadline_s)) if room > 0 else [],
    }


def _one(endpoint: Endpoint, engine: Engine, schedule: Schedule, deadline_s: float) -> RequestRecord:
    done = replay(job_of(endpoint, engine.dialect, schedule, deadline_s))
    (record,) = decode([done], schedule, engine.dialect.parse)
    return record


def _check_counts(record: RequestRecord) -> None:
    if record.error:
        raise CannotStart(f"failed the probe request: {record.error}")
    if record.output_tokens != record.asked_tokens:
        raise CannotStart(f"returned {record.output_tokens} tokens to a request for {record.asked_tokens}")
    if record.reported_tokens not in (None, record.output_tokens):
        raise CannotStart(f"reports {record.reported_tokens} output tokens but sent {record.output_tokens}")
    if record.prompt_tokens not in (None, record.sent_tokens):
        raise CannotStart(f"counts {record.prompt_tokens} prompt tokens where {record.sent_tokens} were sent")


def answer(
    endpoint: Endpoint, engine: Engine, prompt: Sequence[int], length: int, deadline_s: float
) -> tuple[int, ...]:
    """Token ids of a greedy continuation, asked without streaming: a stream may hide the id of a token
    that leaves a character incomplete."""
    dialect = engine.dialect
    try:
        response = httpx.post(
            endpoint.url + dialect.route,
            content=dialect.body(prompt, length, stream=False),
            headers={"Content-Type": "application/json"},
            timeout=deadline_s,
            trust_env=False,
            verify=False,
        )
        response.raise_for_status()
        return dialect.parse(response.content).ids
    except (httpx.HTTPError, ValueError) as problem:
        raise CannotStart(f"failed the answer probe: {problem}") from None
