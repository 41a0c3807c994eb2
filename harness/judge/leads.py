"""Where the lead changes hands from load to load."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from harness.judge.ladder import Ladder, in_order, ladders
from harness.judge.questions import BY_KEY
from harness.judge.ranking import Ranking, rankings
from harness.judge.said import Said
from harness.judge.words import interval_words, listed
from harness.records.metrics import BY_KEY as METRICS

if TYPE_CHECKING:
    from harness.judge.comparison import Comparison

ASKED = ("output_throughput", "ttft_p50")
NOT_KNOWN = "not known"


def lead_words(comparison: Comparison) -> Said | None:
    """Who leads from load to load, in throughput and in TTFT; None if nobody can be ranked at two loads."""
    loads = [load.name for load in in_order(comparison.loads)]
    sentences, names, used = [], dict[str, None](), dict[str, None]()
    for question in ASKED:
        found = [ranking for name in loads for ranking in rankings(comparison, name, question) if not ranking.alone]
        for same in _same_candidates(found):
            if len(same) > 1:
                sentences.append(f"{_capital(BY_KEY[question].title)}: {_words(same, ladders(comparison.loads))}.")
                names.update(dict.fromkeys(name for ranking in same for name in ranking.candidates))
                used.update(dict.fromkeys(ranking.load for ranking in same))
    return Said(" ".join(sentences), tuple(names), tuple(used)) if sentences else None


def _same_candidates(found: Sequence[Ranking]) -> list[list[Ranking]]:
    """The rankings of each machine."""
    machines: dict[frozenset[str], list[Ranking]] = {}
    for ranking in found:
        key = next((one for one in machines if one & set(ranking.cells)), frozenset(ranking.cells))
        machines.setdefault(key, []).append(ranking)
    return list(machines.values())


def _words(found: Sequence[Ranking], kinds: Sequence[Ladder]) -> str:
    leaders = [(ranking, _leader(ranking)) for ranking in found]
    runs = [(leader, [ranking for ranking, _ in run]) for leader, run in groupby(leaders, key=lambda one: one[1])]
    single = dict.fromkeys(leader for leader, _ in runs if leader != NOT_KNOWN)
    if len(runs) == 1 and single:
        return f"{next(iter(single))} at every load{lead_ratios(found)}"
    by_leader: dict[str, list[Ranking]] = {}
    for leader, run in runs:
        by_leader.setdefault(leader, []).extend(run)
    known = [
        f"{leader} at {listed([r.load for r in run])}{lead_ratios(run)}"
        for leader, run in by_leader.items()
        if leader != NOT_KNOWN
    ]
    unknown = [r.load for r in by_leader.get(NOT_KNOWN, [])]
    if not known:
        return f"nobody is known to lead at {listed(unknown)}"
    rest = [f"not known at {listed(unknown)}"] if unknown else []
    places = _changes(found, kinds)
    changes = [f"the lead changes {listed(places)}"] if places else []
    return "; ".join([*known, *rest, *changes])


def _leader(ranking: Ranking) -> str:
    if len(ranking.first) == 1:
        return f"{ranking.titles[ranking.first[0]]} leads"
    return ranking.tie_words() if ranking.first else NOT_KNOWN


def lead_ratios(run: Sequence[Ranking]) -> str:
    """` (1.87 [1.52, 2.29] times the other)`: by how much one leader is ahead of the second at these loads, from the
    smallest ratio to the largest; empty if several lead."""
    ratios = []
    for ranking in run:
        if len(ranking.first) == 1:
            pair = ranking.pairs[ranking.candidates[0], ranking.candidates[1]]
            if pair.ratio is not None:
                ratios.append(
                    (abs(math.log(pair.ratio)), interval_words(pair.ratio, pair.low, pair.high), ranking.load)
                )
    if not ratios:
        return ""
    (_, least, at_least), (_, most, at_most) = min(ratios), max(ratios)
    second = "the other" if all(len(ranking.candidates) == 2 for ranking in run) else "the second"
    times = "times" if METRICS[run[0].question].larger_is_better else "of"
    if least == most:
        return f" ({most} {times} {second})"
    return f" (from {least} {times} {second} at {at_least} to {most} at {at_most})"


def _changes(found: Sequence[Ranking], kinds: Sequence[Ladder]) -> list[str]:
    """Between which loads of one kind another candidate takes the lead; only where both are ranked at both loads."""
    places = []
    for kind in kinds:
        names = {load.name for load in kind.loads}
        known = [ranking for ranking in found if ranking.load in names and len(ranking.first) == 1]
        for before, after in pairwise(known):
            both = {*before.first, *after.first}
            if len(both) == 2 and both <= set(before.candidates) and both <= set(after.candidates):
                places.append(f"between {before.load} and {after.load}")
    return places


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
