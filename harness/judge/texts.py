"""The answers of all candidates to the same prompts, as text, to be read beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.judge.checks.declared import by_chat
from harness.records.run import RunResult, kept_texts


@dataclass(frozen=True, slots=True)
class SaidBy:
    """One answer and the candidates that gave it. `same`: characters, whole words, that it has in common with the
    answer of `against`, the first candidate that was asked in the same way; 0 and empty for its own."""

    candidates: tuple[str, ...]
    text: str
    same: int = 0
    against: str = ""


@dataclass(frozen=True, slots=True)
class AnswersTo:
    """What was answered to one prompt, under one load in one round."""

    load: str
    round: int
    index: int
    prompt: str
    said: tuple[SaidBy, ...]


def answers_beside(runs_of: Mapping[str, Sequence[RunResult]], loads: Sequence[str]) -> tuple[AnswersTo, ...]:
    """The answers whose text was kept, at the load and in the round that most candidates have (the first of several);
    empty if prompts were not real text."""
    found: dict[tuple[str, int], list[tuple[str, RunResult]]] = {}
    for load in loads:
        for name, runs in runs_of.items():
            for run in runs:
                if run.manifest.load.name == load and run.manifest.schedule.prompts:
                    found.setdefault((load, run.manifest.round), []).append((name, run))
    if not found:
        return ()
    (load, round_index), there = max(found.items(), key=lambda one: len(one[1]))
    prompts = there[0][1].manifest.schedule.prompts
    texts = {name: kept_texts(run) for name, run in there}
    chat = {name: by_chat(run.manifest) for name, run in there}
    return tuple(
        AnswersTo(load, round_index, one.index, one.text, said)
        for one in prompts
        if (said := _said({name: held[one.index] for name, held in texts.items() if one.index in held}, chat))
    )


def _said(texts: Mapping[str, str], chat: Mapping[str, bool]) -> tuple[SaidBy, ...]:
    """Each different answer once, those to the prompt alone before those by chat."""
    found = []
    for way in (False, True):
        given: dict[str, list[str]] = {}
        for name, text in texts.items():
            if chat[name] is way:
                given.setdefault(text, []).append(name)
        first = next(iter(given.items()), None)
        for text, names in given.items():
            if first is None or text == first[0]:
                found.append(SaidBy(tuple(names), text))
            else:
                found.append(SaidBy(tuple(names), text, _words_in_common(text, first[0]), first[1][0]))
    return tuple(found)


def _words_in_common(text: str, other: str) -> int:
    """Characters of the whole words that two different texts begin with."""
    pairs = zip(text, other, strict=False)
    same = next((i for i, (mine, theirs) in enumerate(pairs) if mine != theirs), min(len(text), len(other)))
    whole = same == len(text) or same == len(other)
    return same if whole else text.rfind(" ", 0, same) + 1
