"""Continuing a comparison: what must be as before, and what may be corrected."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.commands.resume import PLAN, Earlier, StoredPlan, read_earlier
from harness.errors import HarnessError
from harness.records.campaign import Campaign
from harness.records.stored import write_json
from harness.workload.candidate import Candidate
from harness.workload.plan import Plan
from harness.workload.spec import Workload
from tests.loads import load

ONE, TWO = Candidate(engine="a", name="one"), Candidate(engine="b", name="two")
ASKED = StoredPlan(
    Plan("n", Workload(input_tokens=8, output_tokens=4, load=(load(4, 1),)), candidates=(ONE, TWO)), "model", False
)
CAMPAIGN = Campaign(
    name="n",
    started_at="then",
    candidates=("one", "two"),
    skipped={"two": "no such file"},
    loads=("c1",),
    rounds=3,
    schedules_digest="requests",
    finished=True,
)


def earlier(folder: Path, asked: StoredPlan = ASKED, campaign: Campaign | None = CAMPAIGN) -> Earlier:
    """A comparison in which only the first candidate has a run."""
    folder.mkdir(exist_ok=True)
    write_json(folder / PLAN, asked)
    if campaign:
        write_json(folder / "campaign.json", campaign)
    (folder / "runs" / "one" / "c1" / "round-1").mkdir(parents=True)
    (folder / "runs" / "one" / "c1" / "round-1" / "manifest.json").write_text("{}")
    return read_earlier(folder)


def with_candidates(*candidates: Candidate) -> StoredPlan:
    return replace(ASKED, plan=replace(ASKED.plan, candidates=candidates))


def test_the_same_plan_and_another_choice_of_candidates_can_be_continued(tmp_path: Path) -> None:
    found = earlier(tmp_path)
    found.check(ASKED, "requests")
    found.check(replace(ASKED, plan=replace(ASKED.plan, name="m", model="/path/of/the/same", port=9)), "requests")
    three = Candidate(engine="c", name="three")
    found.check(with_candidates(three), "requests")
    assert found.with_more(with_candidates(three)).plan.candidates == (ONE, TWO, three)


def test_what_differs_is_named(tmp_path: Path) -> None:
    found = earlier(tmp_path)
    other = replace(ASKED, plan=replace(ASKED.plan, workers=2, request_deadline_s=1.0))
    with pytest.raises(HarnessError, match="measured with another request_deadline_s and workers;"):
        found.check(other, "requests")
    for asked, digest in ((replace(ASKED, model_digest="other"), "requests"), (ASKED, "others")):
        with pytest.raises(HarnessError, match="measured with other requests"):
            found.check(asked, digest)


def test_a_candidate_is_corrected_under_its_own_name_until_it_has_a_run(tmp_path: Path) -> None:
    found = earlier(tmp_path)
    corrected = replace(TWO, program="/there")
    found.check(with_candidates(ONE, corrected), "requests")
    assert found.with_more(with_candidates(corrected)).plan.candidates == (ONE, corrected)
    assert found.skipped_without(["one", "two"]) == {} and found.skipped_without(["one"]) == CAMPAIGN.skipped
    with pytest.raises(HarnessError, match="candidate one differs"):
        found.check(with_candidates(replace(ONE, program="/there")), "requests")


def test_prompts_stay_what_they_were_whoever_takes_part_this_time(tmp_path: Path) -> None:
    assert earlier(tmp_path / "text", replace(ASKED, text=True)).text(False) is True
    assert earlier(tmp_path / "old", replace(ASKED, text=None)).text(True) is True
    with pytest.raises(HarnessError, match="drawn for token ids"):
        earlier(tmp_path / "ids").text(True)


def test_one_that_was_interrupted_before_its_first_run_can_be_continued(tmp_path: Path) -> None:
    found = earlier(tmp_path, campaign=None)
    found.check(ASKED, "whatever")
    assert found.skipped_without([]) == {}


def test_a_folder_without_a_plan_or_with_an_unreadable_one_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"holds no comparison to resume \(plan.json is missing\)"):
        read_earlier(tmp_path)
    (tmp_path / PLAN).write_text('{"plan": {"name": 3}}')
    with pytest.raises(HarnessError, match=r"plan.json: not a plan that this version reads"):
        read_earlier(tmp_path)
