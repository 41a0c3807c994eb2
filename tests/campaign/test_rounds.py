"""How many rounds are measured: at least those asked for, and more as long as precision is missing and time is left."""

from __future__ import annotations

import contextlib
import errno
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engines.fake import ENGINE
from harness.campaign import rounds
from harness.campaign.again import check_round, set_aside
from harness.campaign.contender import Contender
from harness.campaign.rounds import Rounds, Watch, run_campaign
from harness.campaign.schedules import freeze
from harness.campaign.session import Runs, Setting
from harness.campaign.target import Prompts
from harness.errors import CannotStart, HarnessError, Stopped
from harness.launch.endpoint import Endpoint
from harness.records.campaign import Campaign, read_campaign
from harness.records.manifest import ModelFacts
from harness.workload.candidate import Candidate
from harness.workload.spec import Workload
from tests.loads import load

WORK = Workload(input_tokens=8, output_tokens=4, load=(load(4, 1), load(4, 2)))
PROMPTS = Prompts(range(100), (), str)


class Clock:
    """A clock that each run moves on by 10 s."""

    def __init__(self) -> None:
        self.now, self.order = 0.0, list[str]()
        self.measure: Callable[[Setting, Contender, Endpoint, Runs], None]

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()

    def measure(setting: Setting, contender: Contender, endpoint: Endpoint, runs: Runs) -> None:
        found.order.append(f"{contender.name}{runs.round}")
        for one, folder in runs.loads:
            setting.schedules.get(one, runs.round)
            folder.mkdir(parents=True, exist_ok=True)
            found.now += 10.0
            (folder / "manifest.json").write_text("{}")

    found.measure = measure
    monkeypatch.setattr(rounds, "measure_endpoint", measure)
    monkeypatch.setattr("harness.campaign.rounds.time.monotonic", found.monotonic)
    return found


def asked(folder: Path, names: tuple[str, ...] = ("a", "b"), **changes: Any) -> Rounds:
    folder.mkdir(exist_ok=True)
    contenders = {name: Contender(Candidate(engine="x", name=name), ENGINE, {}, ModelFacts()) for name in names}
    setting = Setting(workload=WORK, prompts=PROMPTS, schedules=freeze(WORK, 2, PROMPTS, folder), deadline_s=1.0)
    given: dict[str, Any] = {"rounds": 2, **changes}
    return Rounds(
        name="n", folder=folder, started_at="then", candidates=names, contenders=contenders, skipped={},
        setting=setting, **given,
    )  # fmt: skip


@contextlib.contextmanager
def serve(contender: Contender, log: Path) -> Iterator[Any]:
    yield None


def run(what: Rounds, wide: Callable[[int], int] = lambda r: 0, **more: Any) -> Campaign:
    return run_campaign(what, serve, Watch(say=lambda c: lambda text: None, ran=lambda *a: None, wide=wide, **more))


def test_without_a_budget_the_rounds_asked_for_are_measured(tmp_path: Path, clock: Clock) -> None:
    seen: list[int] = []

    def wide(round_index: int) -> int:
        seen.append(round_index)
        return 9

    done = run(asked(tmp_path), wide)
    assert (done.rounds_measured, done.ended, done.finished) == (2, "all 2 rounds are measured", True)
    assert seen == [1, 2] and done.measured_s == 80.0
    assert sorted(clock.order) == ["a1", "a2", "b1", "b2"]
    assert clock.order[1][0] == clock.order[2][0]  # the second round has the other order


def test_further_rounds_go_on_until_the_budget_has_no_room_for_one_more(tmp_path: Path, clock: Clock) -> None:
    further: list[int] = []
    done = run(asked(tmp_path, budget_s=195.0), lambda r: 3, further=further.append)
    assert (done.rounds_measured, further) == (4, [3, 4])  # 160 s are used; a fifth would end at 200 s
    assert done.ended.startswith("the budget of 3.25 min has no room for a round more; 3 questions are not answered")
    assert read_campaign(tmp_path) == done and done.rounds == 2
    assert {p.name for p in (tmp_path / "schedule" / "c1").iterdir()} == {f"round-{r}.parquet" for r in (1, 2, 3, 4)}
    assert done.schedules_digest == freeze(WORK, 2, PROMPTS, tmp_path).whole  # of the rounds asked for


def test_they_stop_as_soon_as_every_pair_is_precise(tmp_path: Path, clock: Clock) -> None:
    done = run(asked(tmp_path, budget_s=1e6), lambda r: 5 - r)
    assert (done.rounds_measured, done.ended) == (5, "every pair is known to the wanted precision after 5 rounds")


def test_what_was_used_of_the_budget_before_counts_after_a_resume(tmp_path: Path, clock: Clock) -> None:
    first = run(asked(tmp_path, budget_s=120.0), lambda r: 1)
    assert (first.rounds_measured, first.measured_s) == (3, 120.0)
    again = asked(tmp_path, budget_s=120.0, measured_s=first.measured_s)
    assert again.least == 3
    clock.order.clear()
    second = run(again, lambda r: 1)
    assert (second.rounds_measured, second.measured_s, clock.order) == (3, 120.0, [])
    third = run(asked(tmp_path, budget_s=160.0, measured_s=120.0), lambda r: 1)
    assert (third.rounds_measured, third.measured_s) == (4, 160.0)


def test_one_candidate_alone_has_no_pair_to_wait_for(tmp_path: Path, clock: Clock) -> None:
    done = run(asked(tmp_path, ("a",), budget_s=1e6), lambda r: 7)
    assert (done.rounds_measured, done.ended) == (2, "fewer than two candidates can be measured")


def test_a_candidate_that_fails_ends_the_further_rounds_too(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(setting: Setting, contender: Contender, endpoint: Endpoint, runs: Runs) -> None:
        if contender.name == "b" and runs.round == 3:
            raise CannotStart("no more memory")
        clock.measure(setting, contender, endpoint, runs)

    monkeypatch.setattr(rounds, "measure_endpoint", failing)
    done = run(asked(tmp_path, budget_s=1e6), lambda r: 7)
    assert (done.rounds_measured, dict(done.skipped)) == (3, {"b": "round 3: no more memory"})


def test_an_interrupted_campaign_says_what_is_complete(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(setting: Setting, contender: Contender, endpoint: Endpoint, runs: Runs) -> None:
        if len(clock.order) == 3:
            raise Stopped("interrupted")
        clock.measure(setting, contender, endpoint, runs)

    monkeypatch.setattr(rounds, "measure_endpoint", stopped)
    with pytest.raises(Stopped):
        run(asked(tmp_path))
    found = read_campaign(tmp_path)
    assert (found.finished, found.rounds_measured, found.ended, found.measured_s) == (False, 1, "", 60.0)


def test_a_round_is_set_aside_for_all_candidates_and_measured_again(tmp_path: Path, clock: Clock) -> None:
    run(asked(tmp_path))
    (tmp_path / "launches").mkdir()
    (tmp_path / "launches" / "a-round-2.log").write_text("log")
    for attempt in (1, 2):
        check_round(tmp_path, 2)
        place = set_aside(tmp_path, 2)
        assert place == tmp_path / "set-aside" / f"round-2-{attempt}"
        assert {str(p.relative_to(place)) for p in place.rglob("manifest.json")} == {
            f"{name}/{one}/manifest.json" for name in ("a", "b") for one in ("c1", "c2")
        }
        clock.order.clear()
        done = run(asked(tmp_path, repeated=(2,) * attempt))
        assert sorted(clock.order) == ["a2", "b2"] and done.repeated == (2,) * attempt
    assert (tmp_path / "set-aside" / "round-2-1" / "launches" / "a-round-2.log").read_text() == "log"
    assert json.loads((tmp_path / "campaign.json").read_text())["repeated"] == [2, 2]
    with pytest.raises(HarnessError, match=r"there is no round 7 to repeat; measured are: 1, 2\."):
        check_round(tmp_path, 7)


def test_a_further_round_that_is_repeated_is_measured_again_too(tmp_path: Path, clock: Clock) -> None:
    run(asked(tmp_path, budget_s=120.0), lambda r: 1)
    set_aside(tmp_path, 3)
    done = run(asked(tmp_path, budget_s=120.0, measured_s=120.0, repeated=(3,)), lambda r: 1)
    assert done.rounds_measured == 3 and (tmp_path / "runs" / "a" / "c1" / "round-3" / "manifest.json").is_file()


ODD = OverflowError("Python int too large")


@pytest.mark.parametrize(
    ("what", "said"),
    [(ODD, "a fault of the harness: OverflowError in test_rounds.py, line "), (HarnessError("no"), "no")],
)
def test_an_odd_value_ends_the_runs_of_its_own_candidate_only(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, what: Exception, said: str
) -> None:
    def measure(setting: Setting, contender: Contender, endpoint: Endpoint, runs: Runs) -> None:
        if contender.name == "a":
            raise what
        clock.measure(setting, contender, endpoint, runs)

    monkeypatch.setattr(rounds, "measure_endpoint", measure)
    faults: list[str] = []
    done = run(asked(tmp_path), fault=lambda contender: faults.append(contender.name))
    assert done.finished and list(done.skipped) == ["a"] and done.skipped["a"].startswith(said)
    assert clock.order == ["b1", "b2"] and faults == (["a"] if what is ODD else [])
    if what is ODD:  # where it happened is kept
        (log,) = (tmp_path / "launches").glob("a-round-*.log")
        assert ": Python int too large; where it happened" in done.skipped["a"]
        assert "Traceback" in log.read_text() and str(log) in done.skipped["a"]


@pytest.mark.parametrize(
    "what",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"),
    ],
)
def test_a_full_disk_ends_them_all(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, what: OSError
) -> None:
    def measure(*_: Any) -> None:
        raise what

    monkeypatch.setattr(rounds, "measure_endpoint", measure)
    with pytest.raises(OSError, match="No space left"):
        run(asked(tmp_path))
    assert read_campaign(tmp_path).skipped == {}


def test_a_broken_connection_is_no_full_disk(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(setting: Setting, contender: Contender, endpoint: Endpoint, runs: Runs) -> None:
        if contender.name == "a":
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        clock.measure(setting, contender, endpoint, runs)

    monkeypatch.setattr(rounds, "measure_endpoint", measure)
    assert list(run(asked(tmp_path)).skipped) == ["a"] and clock.order == ["b1", "b2"]


def test_a_round_in_which_every_candidate_failed_is_not_judged(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*_: Any) -> None:
        raise CannotStart("nothing answers")

    monkeypatch.setattr(rounds, "measure_endpoint", measure)

    def wide(round_index: int) -> int:
        raise AssertionError(f"round {round_index} was judged")

    assert set(run(asked(tmp_path), wide).skipped) == {"a", "b"}


def test_what_says_nothing_of_its_speed_is_measured_in_the_first_round_only(tmp_path: Path, clock: Clock) -> None:
    done = run(asked(tmp_path, ("c", "a", "b"), once=("c",), budget_s=1e6), lambda r: 3 - r)
    assert clock.order[:3] in (["a1", "b1", "c1"], ["b1", "a1", "c1"])
    assert sorted(clock.order[3:]) == ["a2", "a3", "b2", "b3"]
    assert done.skipped == {} and done.rounds_measured == 3
    alone = run(asked(tmp_path / "alone", ("c", "a"), once=("c",), budget_s=1e6), lambda r: 9)
    assert alone.ended == "fewer than two candidates can be measured"


def test_what_must_be_installed_is_measured_later_and_the_wait_is_not_of_the_budget(
    tmp_path: Path, clock: Clock
) -> None:
    done_before: dict[str, list[str]] = {}

    def prepare(contender: Contender) -> None:
        if contender.name not in done_before:
            done_before[contender.name] = list(clock.order)
            clock.now += {"a": 0.0, "b": 600.0, "c": 60.0, "d": 5.0}[contender.name]
        if contender.name == "d":
            raise CannotStart("pip failed: no such package")

    names = ("a", "b", "c", "d")
    done = run(asked(tmp_path, names, later={"b": 10_000, "c": 40, "d": 300}), prepare=prepare)
    assert clock.order[:3] == ["a1", "c1", "b1"] and sorted(clock.order[3:]) == ["a2", "b2", "c2"]
    assert done_before == {"a": [], "c": ["a1"], "d": ["a1", "c1"], "b": ["a1", "c1"]}
    assert done.skipped == {"d": "pip failed: no such package"}
    assert done.measured_s == 120.0
