"""Several comparisons read side by side: what turns round, what agrees, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError, NotComparable
from harness.judge.comparison import Comparison
from harness.judge.side_by_side import SideBySide, side_by_side
from harness.judge.turns import turn_words
from harness.records.manifest import MachineFacts
from harness.report.beside import html, markdown
from tests.told import C1, C4, C16, told, values

INTEL, AMD = MachineFacts(id="i", cpu="Intel 1", cores=2), MachineFacts(id="a", cpu="AMD 2", cores=2)
A = {"alpha": {C1: values(2.0), C16: values(2.0)}, "beta": {C1: values(), C16: values()}}
B = {"alpha": {C1: values(2.0), C16: values()}, "beta": {C1: values(), C16: values(3.0)}}


def beside(*comparisons: Comparison) -> SideBySide:
    return side_by_side([Path(f"results/{i}") for i in range(len(comparisons))], comparisons)


def two(**changes: Any) -> SideBySide:
    return beside(told(A, machines=(INTEL,)), told(B, machines=(AMD,), **changes))


def test_a_lead_that_turns_round_is_said_with_both_ratios() -> None:
    words = turn_words(two())
    assert words[0] == (
        "Throughput at c16: on A Alpha leads (2.00 [1.82, 2.20] times the other), on B Beta does (3.00 [2.73, 3.30] "
        "times the other)."
    )
    assert words[-1] == "8 questions asked on A and B: 4 with the same verdict, 4 turned round."
    assert len(words) == 5 and not any("c1:" in word for word in words)


def test_the_same_machine_twice_agrees() -> None:
    found = beside(told(A), told(A))
    assert turn_words(found) == ["8 questions asked on A and B: 8 with the same verdict, none turned round."]
    assert {row.agreement for row in found.rows} == {"agree"} and found.doubts == ()


def test_what_is_told_on_one_only_is_no_turn() -> None:
    unknown = told(A, {("beta", "alpha", "c16", "output_throughput"): "not known"})
    words = turn_words(beside(told(A), unknown))
    assert words == [
        "8 questions asked on A and B: 7 with the same verdict, none turned round, 1 told on one and not, or "
        "otherwise, on another."
    ]


def test_loads_with_the_same_leaders_share_a_sentence() -> None:
    turned = {"alpha": {C1: values(), C16: values()}, "beta": {C1: values(4.0), C16: values(3.0)}}
    words = turn_words(beside(told(A), told(turned)))
    assert words[0].startswith("Throughput at c1 and c16: on A Alpha leads (2.00 [1.82, 2.20] times the other), on B ")
    assert "Beta does (from 3.00 [2.73, 3.30] times the other at c16 to 4.00 [3.64, 4.40] at c1)" in words[0]


def test_machines_and_versions_that_differ_are_named() -> None:
    other = told(B, machines=(AMD,), schedules_digest="77" * 32)
    alpha, beta = other.candidates
    found = beside(told(A), replace(other, candidates=(alpha, replace(beta, version="9.9"))))
    differing = {fact.name: fact.values for fact in found.facts if fact.differs}
    assert differing["machine"] == ("Invented CPU 3000, 8 cores", "AMD 2, 2 cores")
    assert differing["Beta, version"] == ("1.2.3", "9.9") and "Alpha, version" not in differing
    assert any("schedules are not the same" in doubt for doubt in found.doubts)
    assert "Beta, version differs: A 1.2.3; B 9.9." in found.doubts
    assert two().doubts == ()


def test_an_interrupted_side_is_a_doubt() -> None:
    assert two(finished=False).doubts == ("B was interrupted: results so far.",)


def test_three_sides() -> None:
    found = beside(told(A), told(B), told(A))
    assert [side.letter for side in found.sides] == ["A", "B", "C"]
    assert "on A Alpha leads" in turn_words(found)[0] and "on C Alpha does" in turn_words(found)[0]


def test_loads_of_one_side_only_are_left_out() -> None:
    found = beside(told(A), told({"alpha": {C1: values(), C4: values()}, "beta": {C1: values(), C4: values()}}))
    assert {row.load for row in found.rows} == {"c1"}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            {"name": "big", "digest": "b" * 64},
            "are of different models: tiny-llama (mmmmmmmmmmmm) and big (bbbbbbbbbbbb)",
        ),
        ({"name": "tiny-llama"}, "results/1: the model's digest is not known"),
    ],
)
def test_another_model_is_refused(model: dict[str, str], said: str) -> None:
    with pytest.raises(NotComparable) as caught:
        two(model=model)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_nothing_in_common_is_refused() -> None:
    with pytest.raises(NotComparable, match="no two candidates at one load in common"):
        beside(told(A), told({"alpha": {C4: values()}, "beta": {C4: values()}}))
    with pytest.raises(HarnessError, match="two or more"):
        beside(told(A))


def test_markdown_and_page_show_both_sides() -> None:
    text = markdown(two())
    assert "| c16 | throughput | Beta / Alpha | 0.50 [0.45, 0.55] ▼ | 3.00 [2.73, 3.30] ▲ | turned round |" in text
    assert "| machine | Intel 1, 2 cores | AMD 2, 2 cores |" in text
    page = html(two())
    assert 'class="turned">turned round' in page and "on A Alpha leads" in page and "<script" not in page


def test_names_from_runs_are_escaped() -> None:
    evil = told(A, machines=(MachineFacts(cpu="<b>x</b>"),))
    assert "<b>x" not in html(beside(evil, told(B)))
