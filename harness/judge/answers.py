"""The answers in words that stand at the top of everything, made from the numbers of a comparison.

No sentence says more than the verdict of a pair: who is called the fastest is faster than each other candidate by its
interval, and whoever is equal or not known apart is said to be so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.judge.beside_speed import differences
from harness.judge.ladder import batch_load, lowest_load
from harness.judge.leads import lead_words
from harness.judge.objectives import slo_words
from harness.judge.open_questions import unknown_words
from harness.judge.ranking import Ranking, rankings
from harness.judge.said import Answer, Said
from harness.judge.trust import aa_words, distrust_words
from harness.judge.words import counted, listed
from harness.workload.loads import AllAtOnce, Batches

if TYPE_CHECKING:  # that module calls this one at its end
    from harness.judge.comparison import Comparison
    from harness.judge.loads import LoadSummary

__all__ = ["Answer", "answers"]


@dataclass(frozen=True, slots=True)
class Topic:
    """One thing that a chooser asks. `of` returns None if there is nothing to say."""

    key: str
    title: str
    of: Callable[[Comparison], Said | None]
    weighed: bool = True  # False: it speaks of the checks itself


def answers(comparison: Comparison) -> tuple[Answer, ...]:
    """What the comparison says, in the order of TOPICS. Pure."""
    found = []
    for topic in TOPICS:
        said = topic.of(comparison)
        if said is not None:
            found.append(
                Answer(
                    key=topic.key,
                    title=topic.title,
                    text=said.text,
                    candidates=said.candidates,
                    loads=said.loads,
                    weakened_by=_weakened(comparison, said) if topic.weighed else (),
                )
            )
    return tuple(found)


def _weakened(comparison: Comparison, said: Said) -> tuple[str, ...]:
    """The codes of the checks that doubt or reject the cells that an answer rests on, in the order of the checks."""
    cells = [cell for cell in comparison.cells if cell.load in said.loads and cell.candidate in said.rests_on]
    against = [check.code for cell in cells for check in cell.checks if check.verdict in ("doubt", "invalid")]
    return tuple(dict.fromkeys(against))


def _one_user(comparison: Comparison) -> Said | None:
    load = lowest_load(comparison.loads)
    if load is None:
        return Said("No load of this comparison is that of a single user: add one with concurrency = 1.")
    where = f"For one user ({load.name})" if load.load.slots == 1 else f"At the lowest load measured ({load.name})"
    return _fastest(comparison, load, where, ("tpot_p50", "e2e_p50", "ttft_p50"), "is the fastest", "who is fastest")


def _batch(comparison: Comparison) -> Said | None:
    load = batch_load(comparison.loads)
    if load is None:
        return None
    where = f"At the highest load measured ({load.name})"
    if isinstance(load.load, AllAtOnce):
        where = f"In the offline batch of {counted(load.requests, 'request')}"
    elif isinstance(load.load, Batches):
        where = f"In batches of {load.in_flight} ({load.name})"
    return _fastest(comparison, load, where, ("output_throughput",), "serves most", "who serves most")


def _fastest(
    comparison: Comparison, load: LoadSummary, where: str, questions: Sequence[str], wins: str, who: str
) -> Said:
    """Who leads at one load by the first of these questions that has an answer; the others in sentences of their
    own where somebody else leads."""
    asked = [ranking for question in questions for ranking in rankings(comparison, load.name, question)]
    ranked = [ranking for ranking in asked if not ranking.alone]
    several = len({one.machine for one in comparison.candidates if one.ranked}) > 1
    if not ranked:
        unranked = [one.title for one in comparison.candidates if one.once and comparison.cell(one.name, load.name)]
        return _nothing_ranked(asked, load, where, unranked)
    sentences = []
    for same in _by_machine(ranked):
        place = where
        if several:  # candidates of different machines are never ranked against each other
            place += f", from {_machine(comparison, same[0])}"
        sentences += _sentences(same, place, wins, who)
    sentences += _not_ranked(ranked)
    names = dict.fromkeys(name for ranking in ranked for name in ranking.candidates)
    return Said(" ".join(sentences), tuple(names), (load.name,))


def _by_machine(ranked: Iterable[Ranking]) -> list[list[Ranking]]:
    found: dict[frozenset[str], list[Ranking]] = {}
    for ranking in ranked:
        found.setdefault(frozenset(ranking.cells), []).append(ranking)
    return list(found.values())


def _machine(comparison: Comparison, ranking: Ranking) -> str:
    return comparison.candidate(next(iter(ranking.cells))).machine or "a machine that is not known"


def _sentences(asked: Sequence[Ranking], where: str, wins: str, who: str) -> list[str]:
    """One sentence for all rankings with the same leader as the first, then one for each other."""
    leader = asked[0].first
    same = [ranking for ranking in asked if ranking.first == leader]
    others = [ranking for ranking in asked if ranking.first != leader]
    numbers = "; ".join(ranking.top_words() for ranking in same)
    if len(leader) == 1:
        head = f"{where} {asked[0].titles[leader[0]]} {wins}"
    elif leader:
        behind = ", ahead of the others" if len(asked[0].groups) > 1 else ""
        head = f"{where} {asked[0].tie_words()}{behind}"
    else:
        head = f"{where} it is not known {who}: {asked[0].tie_words()}"
    return [f"{head}: {numbers}." if leader else f"{head} ({numbers}).", *map(_other_sentence, others)]


def _other_sentence(ranking: Ranking) -> str:
    """A metric in which somebody else leads, or where nobody is known to."""
    if len(ranking.first) == 1:
        return f"But {ranking.titles[ranking.first[0]]} leads in {ranking.top_words()}."
    return f"{ranking.tie_words()} in {ranking.top_words()}."


def _not_ranked(ranked: Sequence[Ranking]) -> list[str]:
    titles = {name: ranking.titles[name] for ranking in ranked for name in ranking.invalid}
    if not titles:
        return []
    verb = "is" if len(titles) == 1 else "are"
    return [f"{listed(list(titles.values()))} {verb} not ranked: a check found these numbers invalid."]


def _nothing_ranked(asked: Sequence[Ranking], load: LoadSummary, where: str, unranked: Sequence[str]) -> Said:
    """Fewer than two candidates can be ranked there."""
    single = [ranking for ranking in asked if ranking.candidates]
    names = tuple(dict.fromkeys(name for ranking in asked for name in (*ranking.candidates, *ranking.invalid)))
    if not names and unranked:
        return Said(f"{where} the numbers of {listed(unranked)} say nothing of speed.", (), (load.name,))
    if not names:
        return Said(f"{where} no engine was measured.", (), (load.name,))
    titles = asked[0].titles
    invalid = [titles[name] for name in dict.fromkeys(name for ranking in asked for name in ranking.invalid)]
    why = f" {listed(invalid)} cannot be ranked: a check found these numbers invalid." if invalid else ""
    if not single:
        return Said(f"{where} nothing can be ranked.{why}", (), (load.name,), measured=names)
    alone = dict.fromkeys(ranking.candidates[0] for ranking in single)
    numbers = "; ".join(
        f"{titles[r.candidates[0]]}: {r.top_words()}" if len(alone) > 1 else r.top_words() for r in single
    )
    who = f"{titles[next(iter(alone))]} has nobody to be compared with" if len(alone) == 1 else "nobody can be compared"
    return Said(f"{where} {who}: {numbers}.{why}", tuple(alone), (load.name,), measured=names)


def _machine_words(comparison: Comparison) -> Said | None:
    where = listed([_words_of(one.cpu, one.cores, one.gpus) for one in comparison.machines])
    return Said(
        f"Measured on {where}, with {comparison.model.get('name') or 'a model that is not named'}. Another machine or "
        "another model can turn the ranking round, and nothing here says whether it does: measure there too, and read "
        "both side by side with `harness report A B`."
    )


def _words_of(cpu: str | None, cores: int | None, gpus: Sequence[str]) -> str:
    parts = [cpu or "a CPU that is not known", *([counted(cores, "core")] if cores else []), *(dict.fromkeys(gpus))]
    return ", ".join(parts)


# Every topic once, in the order in which they are shown.
TOPICS: tuple[Topic, ...] = (
    Topic("one-user", "Who is fastest for one user?", _one_user),
    Topic("batch", "Who serves most in a batch?", _batch),
    Topic("slo", "Who holds most load within the SLO?", slo_words),
    Topic("lead", "Where does the lead change hands?", lead_words),
    Topic("unknown", "What could not be told, and what would tell it?", unknown_words),
    Topic("distrust", "What not to rely on", distrust_words, weighed=False),
    Topic("aa", "Is a candidate faster than itself?", aa_words, weighed=False),
    Topic("differs", "What differs that is not speed?", differences),
    Topic("machine", "What does this machine say nothing about?", _machine_words),
)
