"""The table of checks."""

from __future__ import annotations

import pytest

from harness.judge.checks import table
from harness.judge.checks.evidence import Evidence, Outcome
from harness.judge.comparison import compare
from harness.judge.findings import doubts
from harness.records.run import RunResult
from harness.report.single import judge_run
from tests.invented import campaign
from tests.invented_runs import Run


def test_every_check_says_what_it_is_for() -> None:
    assert len({rule.code for rule in table.RULES}) == len(table.RULES)
    for rule in table.RULES:
        assert rule.code == rule.code.upper() and rule.title and rule.help.endswith(".")


def suspicious(evidence: Evidence) -> Outcome:
    return Outcome("doubt", f"{evidence.name} is suspicious.")


def test_one_entry_is_enough(monkeypatch: pytest.MonkeyPatch, invented_runs: list[RunResult], run: Run) -> None:
    rule = table.Rule("LUCK", "Luck", "Nobody is that lucky.", suspicious)
    monkeypatch.setattr(table, "RULES", (*table.RULES, rule))
    comparison = compare(invented_runs, campaign())
    assert {finding.code for finding in doubts(comparison)} == {"LUCK"}
    assert "LUCK" in [check.code for check in judge_run(run())[1]]


@pytest.mark.parametrize("needs", ["needs_peers", "needs_rounds"])
def test_what_a_run_by_itself_cannot_say_is_not_asked(monkeypatch: pytest.MonkeyPatch, run: Run, needs: str) -> None:
    rule = table.Rule("LUCK", "Luck", "Nobody is that lucky.", suspicious, **{needs: True})
    monkeypatch.setattr(table, "RULES", (rule,))
    assert judge_run(run())[1] == []
