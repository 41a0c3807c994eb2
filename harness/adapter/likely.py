"""The most likely tokens of each step of an answer, which some engines name when asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

# For each step the tokens and their log probabilities (nats), the most likely one first.
Steps = tuple[tuple[tuple[int, float], ...], ...]
# Reads them from the JSON of an answer without streaming; empty if they are not there.
ReadSteps = Callable[[bytes], Steps]


def no_steps(answer: bytes) -> Steps:
    """Of an engine that does not name them."""
    return ()


class _Choice(msgspec.Struct):
    logprobs: _Logprobs | None = None


class _Logprobs(msgspec.Struct):
    top_logprobs: list[dict[str, float] | None] | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice] = []


_completion = msgspec.json.Decoder(_Completion).decode


def completion_steps(answer: bytes) -> Steps:
    """Of a completion in the form of OpenAI, whose keys are ids, `token_id:17`: two tokens may have the same text."""
    found = _completion(answer)
    if not found.choices or found.choices[0].logprobs is None:
        return ()
    steps = []
    for step in found.choices[0].logprobs.top_logprobs or ():
        named = {key.removeprefix("token_id:"): value for key, value in (step or {}).items()}
        steps.append(_sorted((int(key), value) for key, value in named.items() if key.isdigit()))
    return tuple(steps)


class _GeneratedMeta(msgspec.Struct):
    output_top_logprobs: list[list[tuple[float, int, Any]] | None] | None = None


class _Generated(msgspec.Struct):
    meta_info: _GeneratedMeta = msgspec.field(default_factory=_GeneratedMeta)


_generated = msgspec.json.Decoder(_Generated).decode


def generated_steps(answer: bytes) -> Steps:
    """Of an answer of the /generate route that SGLang introduced: [log probability, id, text] for each."""
    steps = _generated(answer).meta_info.output_top_logprobs or ()
    return tuple(_sorted((token, value) for value, token, _ in step or ()) for step in steps)


def _sorted(pairs: Any) -> tuple[tuple[int, float], ...]:
    return tuple(sorted(pairs, key=lambda pair: -pair[1]))
