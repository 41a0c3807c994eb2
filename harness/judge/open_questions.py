"""What the rounds did not tell, and how many more would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.judge.pairs import OTHER_LENGTHS
from harness.judge.questions import BY_KEY
from harness.judge.said import Said
from harness.judge.words import counted, listed, minutes

if TYPE_CHECKING:
    from harness.judge.comparison import Comparison
    from harness.judge.pairs import Pair

MOST_NAMED = 4


def unknown_words(comparison: Comparison) -> Said | None:
    """How many of the questions about pairs are not told, which ones, and what would tell them."""
    asked = [pair for pair in comparison.pairs if pair.verdict != "invalid" and pair.ratio is not None]
    few = _too_few(comparison)
    other = sum(pair.ratio is None and (pair.reason or "").startswith(OTHER_LENGTHS) for pair in comparison.pairs)
    if not asked:
        return few or _nothing_asked(comparison)
    more = [few.text] if few else []
    if other:
        more.append(f"{counted(other, 'more question')} cannot be asked: {OTHER_LENGTHS}.")
    open_pairs = [pair for pair in asked if pair.verdict == "not known"]
    titles = {one.name: one.title for one in comparison.candidates}
    if not open_pairs:
        equal = sum(pair.verdict == "equal" for pair in asked)
        ties = f", of which {equal} {'is' if equal == 1 else 'are'} equal within the margin" if equal else ""
        told = f"Every question was told: {counted(len(asked), 'pair and question', 'pairs and questions')}{ties}."
        return Said(" ".join([told, *more]))
    verb = "is" if len(open_pairs) == 1 else "are"
    text = f"{len(open_pairs)} of {counted(len(asked), 'question')} about two candidates {verb} not known: "
    text += f"{_named(open_pairs, titles)}. {_way_out(open_pairs)}"
    return Said(
        " ".join([text, *more]),
        tuple(dict.fromkeys(name for pair in open_pairs for name in (pair.candidate, pair.against))),
        tuple(dict.fromkeys(pair.load for pair in open_pairs)),
    )


def _too_few(comparison: Comparison) -> Said | None:
    """The questions that need more requests before there is a number at all."""
    found = [pair for pair in comparison.pairs if pair.ratio is None and pair.more_rounds is not None]
    if not found:
        return None
    titles = listed(list(dict.fromkeys(BY_KEY[pair.question].title for pair in found)))
    loads = list(dict.fromkeys(pair.load for pair in found))
    least, most = (pick(pair.more_rounds or 0 for pair in found) for pick in (min, max))
    span = counted(most, "more round") if least == most else f"{least} to {counted(most, 'more round')}"
    return Said(
        f"{titles} has too few requests at {listed(loads)}: {span} would give it, or more requests a round.",
        tuple(dict.fromkeys(name for pair in found for name in (pair.candidate, pair.against))),
        tuple(loads),
    )


def _nothing_asked(comparison: Comparison) -> Said | None:
    if not comparison.pairs:
        return None  # nobody to compare with: said elsewhere
    if all(pair.verdict == "invalid" for pair in comparison.pairs):
        return Said("Nothing could be told: in every pair a check found the numbers of a candidate invalid.")
    return Said("Nothing could be told: no pair of candidates has a value in a round that both have.")


def _named(pairs: Sequence[Pair], titles: dict[str, str]) -> str:
    """The open questions of each two candidates: `A and B (throughput and TTFT at c1 and c4, TPOT at c8)`."""
    asked: dict[tuple[str, str, str], list[str]] = {}
    for pair in pairs:
        asked.setdefault((pair.candidate, pair.against, BY_KEY[pair.question].title), []).append(pair.load)
    alike: dict[tuple[str, str], dict[tuple[str, ...], list[str]]] = {}
    for (one, other, question), loads in asked.items():
        alike.setdefault((one, other), {}).setdefault(tuple(loads), []).append(question)
    named = []
    for (one, other), by_loads in alike.items():
        parts = [f"{listed(questions)} at {listed(loads)}" for loads, questions in by_loads.items()]
        rest = len(parts) - MOST_NAMED
        shown = ", ".join(parts[:MOST_NAMED]) + (f", and {rest} more" if rest > 0 else "")
        named.append(f"{titles[one]} and {titles[other]} ({shown})")
    rest = len(named) - MOST_NAMED
    return ", ".join(named[:MOST_NAMED]) + (f", and {counted(rest, 'more pair')}" if rest > 0 else "")


def _way_out(pairs: Sequence[Pair]) -> str:
    """How many more rounds and minutes, at the spread seen."""
    known = [(pair.more_rounds, pair.more_s) for pair in pairs if pair.more_rounds is not None]
    without = len(pairs) - len(known)
    if all(pair.rounds < 2 for pair in pairs):
        return "One round has no spread: at least 2 are needed for an interval, and 5 for a useful one."
    if not known:
        return "More rounds would narrow the intervals; how many is not known."
    rounds = max(more for more, _ in known)
    times = [seconds for _, seconds in known if seconds is not None]
    long = f", about {minutes(max(times))}," if times else ""
    which = "them" if not without else f"{len(known)} of them"
    rest = f" For the other {without} that is not known." if without else ""
    return f"At the spread seen, {counted(rounds, 'more round', 'more rounds')}{long} would tell {which}.{rest}"
