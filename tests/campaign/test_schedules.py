"""The schedules of a comparison: frozen once, the same for every candidate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.campaign import schedules
from harness.campaign.schedules import freeze, in_memory, schedules_digest
from harness.campaign.target import Prompts
from harness.errors import HarnessError
from harness.records.schedules import read_schedule, schedule_file, write_schedule
from harness.workload.schedule import build_schedule, warmup_schedule
from harness.workload.spec import Workload
from tests.loads import load

LOADS = (load(6, 2), load(8, rate=50.0), load(6, batch=3))
WORK = Workload(input_tokens=12, output_tokens=4, load=LOADS)
PROMPTS = Prompts(range(100, 200), (7,), str)


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_load_and_round_is_in_a_file_of_its_own(tmp_path: Path) -> None:
    frozen = freeze(WORK, 2, PROMPTS, tmp_path)
    wanted = {schedule_file(tmp_path, one.name, r) for one in LOADS for r in (1, 2)}
    assert set(files(tmp_path)) == wanted and len(wanted) == 6
    assert frozen.whole == schedules_digest(WORK, 2, PROMPTS)
    for one in LOADS:
        for r in (1, 2):
            built = build_schedule(WORK, one, r, PROMPTS.vocabulary, PROMPTS.lead)
            assert frozen.get(one, r) == read_schedule(schedule_file(tmp_path, one.name, r)) == built
            assert all(request.prompt_ids[0] == 7 for request in built.requests)
    assert frozen.warmup(LOADS[0], 1) == warmup_schedule(WORK, LOADS[0], 1, PROMPTS.vocabulary, PROMPTS.lead)


def test_what_is_frozen_already_is_kept_and_what_is_missing_is_added(tmp_path: Path) -> None:
    freeze(WORK, 1, PROMPTS, tmp_path)
    before = files(tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in before}
    whole = freeze(WORK, 2, PROMPTS, tmp_path).whole
    assert {path: path.stat().st_mtime_ns for path in before} == stamps
    assert before.items() < files(tmp_path).items() and whole == schedules_digest(WORK, 2, PROMPTS)


@pytest.mark.parametrize(
    ("work", "prompts"),
    [
        (replace(WORK, seed=2), PROMPTS),
        (replace(WORK, output_tokens=5), PROMPTS),
        (WORK, replace(PROMPTS, lead=())),
        (WORK, replace(PROMPTS, vocabulary=range(100, 201))),
    ],
    ids=["seed", "length", "lead", "vocabulary"],
)
def test_a_folder_of_other_requests_is_refused(tmp_path: Path, work: Workload, prompts: Prompts) -> None:
    freeze(WORK, 1, PROMPTS, tmp_path)
    before = files(tmp_path)
    with pytest.raises(HarnessError, match=r"round-1\.parquet: has other requests than this comparison"):
        freeze(work, 1, prompts, tmp_path)
    assert files(tmp_path) == before


def test_a_file_that_was_changed_meanwhile_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = freeze(WORK, 1, PROMPTS, tmp_path)
    path = schedule_file(tmp_path, LOADS[0].name, 1)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(HarnessError, match="not a schedule"):
        frozen.get(LOADS[0], 1)


def test_few_prompts_are_held_in_memory_and_the_others_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def reading(path: Path) -> object:
        read.append(path)
        return read_schedule(path)

    frozen = freeze(WORK, 1, PROMPTS, tmp_path)
    monkeypatch.setattr("harness.records.schedules.read_schedule", reading)
    first, second, _ = LOADS
    for one in (first, first, second, second):
        frozen.get(one, 1)
    assert len(read) == 2
    monkeypatch.setattr(schedules, "HELD_IDS", 12 * 8)  # room for one of them
    small = freeze(WORK, 1, PROMPTS, tmp_path)
    read.clear()
    for one in (first, second, first):
        assert small.get(one, 1) == build_schedule(WORK, one, 1, PROMPTS.vocabulary, PROMPTS.lead)
    assert len(read) == 3


def test_a_replay_builds_its_one_schedule_and_writes_none(tmp_path: Path) -> None:
    one = in_memory(WORK, LOADS[1], PROMPTS)
    built = build_schedule(WORK, LOADS[1], 1, PROMPTS.vocabulary, PROMPTS.lead)
    assert one.get(LOADS[1], 1) == built
    assert one.whole == schedules_digest(replace(WORK, load=(LOADS[1],)), 1, PROMPTS)
    assert files(tmp_path) == {}


def test_a_written_schedule_is_of_any_kind(tmp_path: Path) -> None:
    """The batches of a load wait for those before them."""
    batches = build_schedule(WORK, LOADS[2], 1, PROMPTS.vocabulary)
    path = tmp_path / "a" / "b.parquet"
    write_schedule(path, batches)
    assert read_schedule(path) == batches and batches.requests[3].after == (0, 1, 2)


@pytest.mark.parametrize(
    ("vocabulary", "most"),
    [(range(100, 50_000), 1), (range(100, 102), 12)],  # ids of two kinds: prompts of 11 drawn tokens repeat
    ids=["random", "few tokens"],
)
def test_what_two_prompts_of_a_round_share_is_counted_over_its_loads(vocabulary: range, most: int) -> None:
    prompts = Prompts(vocabulary, (7,), str)
    found = in_memory(replace(WORK, load=(load(80, 4),)), load(80, 4), prompts).shared_prefix(1)
    assert found is not None and (found <= most if most == 1 else 5 <= found <= most)
    again = replace(WORK, load=(load(6, 2), load(6, 3)))
    same = schedules.Schedules(again, prompts, ["x"], None)
    for one in again.load:
        same.hold(one, 1, build_schedule(WORK, LOADS[0], 1, vocabulary, (7,)))
    assert same.shared_prefix(1) == 11  # the same prompts at both loads; what all begin with does not count
