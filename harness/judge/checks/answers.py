"""Whether the candidates give the same answers: ANSWERS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

from harness.judge.checks.declared import answer_of, by_chat, declares_weights
from harness.judge.checks.evidence import AGAINST, Evidence, Outcome, Verdict, is_attached, worst
from harness.judge.checks.lengths import greedy_agreement
from harness.judge.partings import CLEAR, EARLY, Kind, Parting, Said, constant, parting
from harness.records.run import RunResult, kept_texts

FEWEST_KEPT = 4  # answers under load that both have: fewer say nothing about their first tokens
MOST_FIRST = 0.5  # of the answers under load may differ in their very first token
CHARACTERS_A_TOKEN = 4  # about, for the few first tokens of an answer of which only the text is known
MOST_CONSTANT = 0.5  # of them may be one token again and again where the other's are not
ADVICE = (
    "Rounding can flip a near-tie, and one flip changes all later tokens; a difference in the first few tokens, or one "
    "that the engines are sure of, points to other weights, another chat template or precision, or a fault."
)
_VERDICT: Mapping[Kind, Verdict] = {"near tie": "note", "clear": "doubt", "wrong": "invalid"}


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that was found, in words."""

    verdict: Verdict
    message: str
    numbers: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    """What one candidate answered. `kept`: round and index of the request -> the ids of its answer under load;
    `texts`: their text, if it was kept."""

    runs: Sequence[RunResult]
    title: str
    kept: Mapping[tuple[int, int], Sequence[int]]
    texts: Mapping[tuple[int, int], str] = field(default_factory=dict)


def answers(evidence: Evidence) -> Outcome | None:
    """Compares a candidate's answers with those of the candidate that most others agree with: the greedy answers to the
    probe, and the answers under load that were kept. Then its answer under load with its own to the same request
    alone."""
    peers = evidence.peers
    if peers is None:
        return None
    told = {
        name: Told(runs, peers.titles.get(name, name), _kept(runs), _texts(runs))
        for name, runs in peers.runs.items()
        if by_chat(runs[0].manifest) == by_chat(evidence.manifest)
    }
    base = base_of(told, peers.reference)
    found = _under_own_load(told[evidence.name])
    if evidence.name == base:
        alike = "others" if len(told) == len(peers.runs) else "others whose prompts are sent alike"
        text = f"The {alike} are compared with this one." if len(told) > 1 else "No other candidate has these prompts."
        found.append(Found("ok", text, {}))
    else:
        found += against(told[evidence.name], told[base])
    verdict = worst(one.verdict for one in found)
    numbers = {key: value for one in found for key, value in one.numbers.items()}
    # What is fine is left out where something is not.
    shown = [one for one in found if verdict == "ok" or one.verdict != "ok"]
    text = " ".join(one.message for one in shown)
    return Outcome(verdict, text, numbers, ADVICE if verdict in AGAINST else "")


def base_of(told: Mapping[str, Told], reference: str) -> str:
    """The candidate that most others agree with, so that one wrong candidate does not make all others look wrong; the
    reference if several are alike. One whose answers are constant where others' are not is none."""
    score = dict.fromkeys(told, 0)
    for one, other in permutations(told, 2):
        found = against(told[one], told[other])
        if any("constant_answers" in f.numbers for f in found):
            score[one] -= len(told)
        elif worst(f.verdict for f in found) not in AGAINST:
            score[other] += 1
    best = max(score.values(), default=0)
    return next(name for name in (reference, *score) if score.get(name) == best)


def against(mine: Told, theirs: Told) -> list[Found]:
    """What the answers of one candidate say beside those of another."""
    found = [_probe(mine, theirs)]
    if (beside := _under_load(mine, theirs) or _texts_under_load(mine, theirs)) is not None:
        found.append(beside)
    attached = any(is_attached(run.manifest) for run in (*mine.runs, *theirs.runs))
    declared = any(declares_weights(one.runs[0].manifest) for one in (mine, theirs))
    return [_softened(one, attached, declared) for one in found]


def _softened(found: Found, attached: bool, declared: bool) -> Found:
    """Other weights give other answers, and a server that already ran may have another chat template; neither is a
    reason for the same token again and again."""
    if found.verdict not in AGAINST or "constant_answers" in found.numbers:
        return found
    if declared:
        return Found("note", f"{found.message} Its weights are declared to be others.", found.numbers)
    return Found("doubt", found.message, found.numbers) if attached else found


def _probe(mine: Told, theirs: Told) -> Found:
    """The greedy answers to the probe; the worst round counts."""
    title, reference = theirs.title, {run.manifest.round: _said(run) for run in theirs.runs}
    pairs = [
        (said, other)
        for run in mine.runs
        if (said := _said(run)).ids and (other := reference.get(run.manifest.round, Said(()))).ids
    ]
    if not pairs and (found := _by_text(mine, theirs)) is not None:
        return found
    if not pairs:
        if any(is_attached(run.manifest) for run in (*mine.runs, *theirs.runs)):
            why = "a server that already ran does not return token ids"
            return Found("note", f"No probe answer to compare with {title}: {why}.", {})
        why = "make the engine file return token ids"
        return Found("doubt", f"No probe answer to compare with {title}; {why}.", {})
    partings = [(parting(said, other), said, other) for said, other in pairs]
    apart, said, other = max(partings, key=lambda one: _severity(one[0]))
    agreed = greedy_agreement(said.ids, other.ids)
    numbers: dict[str, Any] = {"leading": agreed.leading, "positions": agreed.positions, "tokens": agreed.tokens}
    text = (
        f"greedy answer against {title}: {agreed.leading:.0%} equal up to the first difference, "
        f"{agreed.positions:.0%} by position, of {agreed.tokens} tokens"
    )
    if apart is None:
        return Found("ok", f"Same answer ({text}).", numbers)
    numbers |= {"parted_at": apart.at, "nats": apart.nats, "strange": apart.strange}
    return Found(_verdict(apart), f"Not the same answer ({text}): {_reason(apart)}.", numbers)


def _by_text(mine: Told, theirs: Told) -> Found | None:
    """The greedy answers to the probe as text, where one of the two shows no token ids; None without texts. The worst
    round counts; blanks at both ends are not compared, since some engines cut them."""
    reference = {run.manifest.round: _text(run) for run in theirs.runs}
    pairs = [
        (text, other) for run in mine.runs if (text := _text(run)) and (other := reference.get(run.manifest.round))
    ]
    if not pairs:
        return None
    same, length = min(map(_in_common, pairs), key=lambda one: one[0] / one[1])
    numbers = {"leading_characters": same, "characters": length}
    if same == length:
        return Found("ok", f"Same answer as {theirs.title}, compared as text ({length} characters).", numbers)
    return Found(
        "doubt" if same < EARLY * CHARACTERS_A_TOKEN else "note",
        f"Not the same answer as {theirs.title}, compared as text: the first {same} of {length} characters are equal; "
        "the engines do not say how sure they were.",
        numbers,
    )


def _text(run: RunResult) -> str:
    return run.manifest.probe.answer_text.strip() if run.manifest.probe else ""


def _in_common(pair: tuple[str, str]) -> tuple[int, int]:
    """Characters that both begin with, and those of the longer one."""
    at = next((i for i, (one, other) in enumerate(zip(*pair, strict=False)) if one != other), min(map(len, pair)))
    return at, max(map(len, pair))


def _texts_under_load(mine: Told, theirs: Told) -> Found | None:
    """The text of the answers under load, where engines name no ids: who sends text may cut it elsewhere, so that only
    the first words say that another answer was given. None if prompts were no real text, or too few are kept."""
    pairs = [(text, theirs.texts[key]) for key, text in mine.texts.items() if key in theirs.texts]
    if len(pairs) < FEWEST_KEPT:
        return None
    same = sum(one == beside for one, beside in pairs)
    apart = sum(one.split()[:1] != beside.split()[:1] for one, beside in pairs)
    numbers: dict[str, Any] = {"kept_texts": len(pairs), "same_text": same, "first_word_differs": apart}
    text = (
        f"Under load, as text, {len(pairs) - apart} of {len(pairs)} answers begin with the same word as those of "
        f"{theirs.title}, and {same} are the same."
    )
    return Found("doubt" if apart > MOST_FIRST * len(pairs) else "ok", text, numbers)


def _said(run: RunResult) -> Said:
    probe = run.manifest.probe
    return Said(answer_of(run), probe.answer_likely if probe else ())


def _verdict(apart: Parting) -> Verdict:
    if apart.kind == "unknown":
        return "doubt" if apart.early else "note"
    return _VERDICT[apart.kind]


def _severity(apart: Parting | None) -> tuple[int, int]:
    """For the worst of several."""
    if apart is None:
        return -1, 0
    return ("note", "doubt", "invalid").index(_verdict(apart)), -apart.at


def _reason(apart: Parting) -> str:
    """What the parting means, in words."""
    if apart.nats is None:
        return "the engines do not say how sure they were"
    if apart.kind == "near tie":
        return f"both tokens were about as likely ({apart.nats:.2g} nats apart), which rounding explains"
    if apart.strange:
        return "neither engine finds the other's token likely"
    return f"the engines differ by {apart.nats:.2g} nats there, which rounding does not explain"


def _under_load(mine: Told, theirs: Told) -> Found | None:
    """The answers under load that both have; None if there are too few. Their first tokens: right engines rarely differ
    there, and wrong ones nearly always; and whether they are one token again and again."""
    title, pairs = theirs.title, [(ids, theirs.kept[key]) for key, ids in mine.kept.items() if key in theirs.kept]
    if len(pairs) < FEWEST_KEPT:
        return None
    numbers: dict[str, Any] = {"kept_answers": len(pairs)}
    stuck = sum(constant(one) and not constant(beside) for one, beside in pairs)
    if stuck > MOST_CONSTANT * len(pairs):
        text = f"{stuck} of {len(pairs)} answers under load are one token again and again; those of {title} are not."
        return Found("invalid", text, {**numbers, "constant_answers": stuck})
    apart = sum(one[0] != beside[0] for one, beside in pairs)
    numbers["first_token_differs"] = apart
    if apart > MOST_FIRST * len(pairs):
        text = f"Under load {apart} of {len(pairs)} answers differ from those of {title} in their very first token."
        return Found("invalid", text, numbers)
    return Found("ok", f"Under load {len(pairs) - apart} of {len(pairs)} answers begin as those of {title}.", numbers)


def _under_own_load(mine: Told) -> list[Found]:
    """The answer to one request under load beside the same candidate's answer to it alone; the worst round counts.
    Empty if there is none, or if they are the same or part at a near-tie."""
    found: list[Found] = []
    for run in mine.runs:
        alone = run.manifest.probe.alone if run.manifest.probe else None
        if alone is None or alone.load != run.manifest.load.name:
            continue
        ids = mine.kept.get((run.manifest.round, alone.index), ())
        if not ids:
            continue
        tokens = min(len(ids), len(alone.ids))
        apart = parting(Said(alone.ids[:tokens], alone.likely), Said(ids[:tokens]))
        if apart is None or apart.kind == "near tie" or (apart.kind == "unknown" and not apart.early):
            continue
        sure = apart.strange or (apart.nats or 0.0) >= CLEAR
        why = "alone, that token was not likely" if apart.strange else _reason(apart)
        text = f"Under load, its answer to one request is not what it was alone, from token {apart.at + 1} on: {why}."
        numbers = {"load_parted_at": apart.at, "load_nats": apart.nats}
        found.append(Found("invalid" if sure else "doubt", text, numbers))
    return sorted(found, key=lambda one: one.verdict == "invalid")[-1:]


def _kept(runs: Sequence[RunResult]) -> dict[tuple[int, int], tuple[int, ...]]:
    """The answers under load whose ids were kept, of requests that succeeded; empty if the engine streams none."""
    found = {}
    for run in runs:
        index, status = run.requests["index"], run.requests["status"]
        for at, ids in enumerate(run.requests["output_ids"]):
            if ids is not None and status[at] == "ok":
                found[run.manifest.round, int(index[at])] = tuple(map(int, ids))
    return found


def _texts(runs: Sequence[RunResult]) -> dict[tuple[int, int], str]:
    """The same as text; empty unless prompts are real text."""
    return {(run.manifest.round, index): text for run in runs for index, text in kept_texts(run).items()}
