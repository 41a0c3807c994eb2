"""Which numbers a reader must not rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.judge.outlier import outlier_round
from harness.judge.questions import BY_KEY
from harness.judge.said import Said
from harness.judge.words import counted, listed, percent

if TYPE_CHECKING:
    from harness.judge.checks.evidence import Verdict
    from harness.judge.comparison import Comparison


def distrust_words(comparison: Comparison) -> Said | None:
    """The invalid cells with the checks that reject them, and the checks that doubt others; None if there are none."""
    invalid, doubted = _by_code(comparison, "invalid"), _by_code(comparison, "doubt")
    sentences = []
    if invalid:
        sentences.append(f"Invalid, and not ranked: {'; '.join(_where(comparison, invalid))}.")
    if doubted:
        sentences.append(f"Doubted, so read the check first: {'; '.join(_where(comparison, doubted))}.")
    for one in comparison.candidates:
        if one.once:
            sentences.append(
                f"{one.title}'s numbers say nothing of its speed: {one.no_speed}. It is measured in one round and not "
                "ranked, unless it is named (--engines)."
            )
    if outlier := outlier_round(comparison):
        sentences.append(
            f"Round {outlier.round} of {comparison.candidate(outlier.candidate).title} is out of line: "
            f"{outlier.ratio:.2f} times its usual throughput at {listed(outlier.loads)}."
        )
    if not comparison.finished:
        sentences.append("The comparison was interrupted: these are the results so far.")
    if not sentences:
        return None
    cells = [place for found in (invalid, doubted) for places in found.values() for place in places]
    return Said(
        " ".join(sentences), tuple(dict.fromkeys(name for name, _ in cells)), tuple(dict.fromkeys(c for _, c in cells))
    )


def aa_words(comparison: Comparison) -> Said | None:
    """How often candidates that are the same thing were called different, and how far they seem to differ: the noise
    floor of this machine. None without such candidates."""
    if not comparison.aa:
        return None
    titles = {one.name: one.title for one in comparison.candidates}
    sentences = []
    for test in comparison.aa:
        same = f"{listed([titles[name] for name in test.candidates])} are the same"
        if not test.questions:
            sentences.append(f"{same}, but no question has an interval yet.")
            continue
        wrong = f"{test.false_verdicts} of {counted(test.questions, 'question')} called a difference"
        wrong += ", which is false" if test.false_verdicts else ""
        noise = [
            f"{BY_KEY[one.question].title} by {percent(one.difference)} (at most {percent(one.largest_difference)})"
            for one in test.noise
        ]
        sentences.append(f"{same}: {wrong}, {test.equal} equal. At the median they seem to differ in {listed(noise)}.")
    return Said(" ".join(sentences), tuple(dict.fromkeys(name for test in comparison.aa for name in test.candidates)))


def _by_code(comparison: Comparison, verdict: Verdict) -> dict[str, list[tuple[str, str]]]:
    """Code -> the cells (candidate, load) that it speaks against."""
    found: dict[str, list[tuple[str, str]]] = {}
    for cell in comparison.cells:
        for check in cell.checks:
            if check.verdict == verdict:
                found.setdefault(check.code, []).append((cell.candidate, cell.load))
    return found


def _where(comparison: Comparison, found: dict[str, list[tuple[str, str]]]) -> list[str]:
    """`DRIFT: llama.cpp (c1, c2)`; many cells of one check are counted."""
    titles = {one.name: one.title for one in comparison.candidates}
    every = len(comparison.loads)
    texts = []
    for code, places in found.items():
        by_candidate: dict[str, list[str]] = {}
        for name, load in places:
            by_candidate.setdefault(name, []).append(load)
        if len(places) == len(comparison.cells) and len(places) > 1:
            texts.append(f"{code}: all {counted(len(places), 'cell')}")
            continue
        parts = [
            f"{titles[name]} ({'all loads' if len(loads) == every > 1 else ', '.join(loads)})"
            for name, loads in by_candidate.items()
        ]
        texts.append(f"{code}: {', '.join(parts)}")
    return texts
