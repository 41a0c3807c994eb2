"""Comparisons side by side in words: where another candidate leads, and how many verdicts agree."""

from __future__ import annotations

from harness.judge.ladder import in_order
from harness.judge.leads import lead_ratios
from harness.judge.questions import QUESTIONS
from harness.judge.ranking import Ranking, rankings
from harness.judge.side_by_side import Side, SideBySide
from harness.judge.words import counted, listed


def turn_words(found: SideBySide) -> list[str]:
    """First where the lead turns round, a sentence per question; then how the verdicts agree."""
    return [*_turns(found), _count(found)]


def _turns(found: SideBySide) -> list[str]:
    """`Throughput at c8 and c16: on A Alpha leads (2.00 [1.82, 2.20] times the other), on B Beta does (...).`
    Loads with the same leaders share a sentence."""
    sentences = []
    loads = dict.fromkeys(load.name for side in found.sides for load in in_order(side.comparison.loads))
    for question in QUESTIONS:
        alike: dict[tuple[tuple[str, str], ...], list[dict[str, Ranking]]] = {}
        for load in loads:
            leads = {s.letter: lead for s in found.sides if (lead := _lead(s, load, question.key)) is not None}
            leaders = tuple((letter, lead.titles[lead.first[0]]) for letter, lead in leads.items())
            if len({leader for _, leader in leaders}) > 1:
                alike.setdefault(leaders, []).append(leads)
        for leaders, every in alike.items():
            where = listed([next(iter(leads.values())).load for leads in every])
            said = [
                f"on {letter} {leader} {'does' if i else 'leads'}{lead_ratios([leads[letter] for leads in every])}"
                for i, (letter, leader) in enumerate(leaders)
            ]
            sentences.append(f"{question.title[:1].upper()}{question.title[1:]} at {where}: {', '.join(said)}.")
    return sentences


def _lead(side: Side, load: str, question: str) -> Ranking | None:
    """The ranking of one side if one candidate leads there."""
    every = rankings(side.comparison, load, question)
    found = every[0] if len(every) == 1 else None  # several machines in one comparison have no common lead
    return found if found is not None and len(found.first) == 1 else None


def _count(found: SideBySide) -> str:
    def many(agreement: str) -> int:
        return sum(row.agreement == agreement for row in found.rows)

    letters = listed([side.letter for side in found.sides])
    text = f"{counted(len(found.rows), 'question')} asked on {letters}: {many('agree')} with the same verdict"
    text += f", {many('turned')} turned round" if many("turned") else ", none turned round"
    text += f", {many('apart')} told on one and not, or otherwise, on another" if many("apart") else ""
    text += f", {many('open')} told on none" if many("open") else ""
    return f"{text}."
