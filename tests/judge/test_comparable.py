"""Which runs may stand side by side: unknown never equals unknown, and machines are not mixed unasked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.errors import NotComparable
from harness.judge.comparison import compare
from harness.report.rows import head_lines, rows
from tests.invented import ALPHA, BETA, ONE, campaign
from tests.invented_runs import Run

GAMMA = replace(BETA, name="gamma", title="Gamma")
OTHER = {"machine__id": "box-2", "machine__cpu": "Invented CPU 4000"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model__digest": None}, "the digest of its model is not known"),
        ({"machine__id": None}, "its machine is not known"),
        ({"schedule__digest": ""}, "the digest of its schedule is not known"),
        ({"schedule__whole": ""}, "the digest of the whole workload is not known"),
    ],
)
def test_two_unknowns_are_not_equal(run: Run, change: dict[str, Any], said: str) -> None:
    alone = run(**change)
    assert compare([alone], campaign()).cells
    with pytest.raises(NotComparable, match=said) as caught:
        compare([alone, run(BETA, **change)], campaign())
    assert str(alone.folder) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(NotComparable, match=said):
        compare([run(), run(BETA, **change)], campaign())


def test_other_machines_are_refused_with_the_difference(run: Run) -> None:
    changes = {**OTHER, "machine__gpus": ("GPU 1",)}
    said = "cpu Invented CPU 3000 against Invented CPU 4000; gpus none against GPU 1"
    with pytest.raises(NotComparable, match=said):
        compare([run(), run(BETA, **changes)], campaign())


def test_with_leave_candidates_are_ranked_among_those_of_their_machine(run: Run) -> None:
    runs = [
        run(round_index=r, **changes) if engine is ALPHA else run(engine, round_index=r, **changes)
        for engine, changes in ((ALPHA, {}), (BETA, OTHER), (GAMMA, OTHER))
        for r in (1, 2)
    ]
    comparison = compare(runs, campaign(["alpha", "beta", "gamma"]), allow_machine=True)
    assert {(p.candidate, p.against) for p in comparison.pairs} == {("gamma", "beta")}
    assert [one.reference for one in comparison.candidates] == ["alpha", "beta", "beta"]
    assert [machine.id for machine in comparison.machines] == ["box-1", "box-2"]
    shown = rows(comparison, comparison.loads[0])
    assert [row.title for row in shown] == ["Alpha @ box-1", "Beta @ box-2", "Gamma @ box-2"]
    pair = comparison.to_reference("gamma", shown[2].cell.load, "ttft_p50") if shown[2].cell else None
    assert pair is not None and pair.verdict == "equal"
    assert "box-1: Invented CPU 3000, 8 cores, no GPU · box-2: Invented CPU 4000" in head_lines(comparison)[1]


def test_peers_are_those_of_the_same_machine(run: Run) -> None:
    runs = [run(), run(BETA, model__weight_dtype="fp8", **OTHER)]
    comparison = compare(runs, campaign(), allow_machine=True)
    cell = comparison.cell("alpha", ONE.name)
    assert cell is not None
    assert {check.code: check.verdict for check in cell.checks}["PRECISION"] == "ok"


def test_one_candidate_on_two_machines_is_refused_even_so(run: Run) -> None:
    with pytest.raises(NotComparable, match="different machines"):
        compare([run(), run(round_index=2, **OTHER)], campaign(), allow_machine=True)
