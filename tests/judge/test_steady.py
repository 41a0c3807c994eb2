"""STEADY_STATE, STALL and WARMUP: what they say, and how often they blame noise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.judge.checks.lockstep import synchrony
from harness.records.request import RequestRecord
from harness.workload.loads import Load
from tests.judge.checking import check
from tests.judge.planting import half_speed, runs_of, slow_first, stopped
from tests.judge.serving import Records, length_s, serve, warped, write_rounds
from tests.loads import load

NOISY: tuple[tuple[Load, Mapping[str, Any]], ...] = (
    (load(12, 1), {}),
    (load(40, 4), {"noise": 0.3, "lengths": (8, 100)}),
    (load(80, 8), {"staggered": False}),
    (load(60, rate=5.0), {"noise": 0.3}),
)


@pytest.mark.parametrize(("point", "served"), NOISY, ids=lambda one: getattr(one, "name", ""))
@pytest.mark.parametrize("rounds", [1, 5])
def test_noise_is_not_blamed(point: Load, served: Mapping[str, Any], rounds: int, tmp_path: Path) -> None:
    blamed = []
    for seed in range(8):
        made = [serve(point, 100 * seed + r, **served) for r in range(rounds)]
        runs = write_rounds(tmp_path / str(seed), point, made)
        blamed += [one for code in ("STEADY_STATE", "STALL", "WARMUP") if (one := check(runs, code)).verdict != "ok"]
    assert not blamed


@pytest.mark.parametrize(
    "point",
    [load(200, rate=10.0, ramp_to=40.0), load(64, batch=8), load(160)],
    ids=lambda one: one.name,
)
def test_a_load_that_changes_by_design_is_not_blamed(point: Load, tmp_path: Path) -> None:
    made = [serve(point, seed) for seed in range(3)]
    runs = write_rounds(tmp_path, point, [half_speed(rows) for rows in made])
    assert check(runs, "STEADY_STATE").verdict == "ok"


def test_a_change_of_a_tenth_is_a_doubt(tmp_path: Path) -> None:
    def slower(rows: Records) -> Records:
        middle = length_s(rows) / 2
        return warped(rows, lambda t: t if t < middle else middle + 1.18 * (t - middle))

    found = check(runs_of(tmp_path, load(320, 8), slower), "STEADY_STATE")
    assert found.verdict == "doubt" and "slower than the first" in found.message
    assert found.numbers["change"] == pytest.approx(1 / 1.18 - 1, abs=0.03)
    faster = runs_of(tmp_path / "up", load(320, 8), lambda rows: warped(rows, lambda t: t**0.8))
    assert "faster than the first" in check(faster, "STEADY_STATE").message


def test_few_waves_are_a_note_and_none_a_doubt(tmp_path: Path) -> None:
    few = check(runs_of(tmp_path / "few", load(72, 8)), "STEADY_STATE")
    assert few.verdict == "note" and few.message.startswith("9 requests for each slot; 10 are advised.")
    none = check(runs_of(tmp_path / "none", load(12, 8)), "STEADY_STATE")
    assert none.verdict == "doubt" and "no steady window: 12 requests for 8 slots" in none.message


def test_it_says_what_was_cut(tmp_path: Path) -> None:
    found = check(runs_of(tmp_path), "STEADY_STATE")
    assert found.numbers["window_s"] < found.numbers["run_s"]
    assert 0 < found.numbers["before"] <= 8 and found.numbers["after"] == 8
    assert "are cut." in found.message


def test_a_queue_that_grows_is_named(tmp_path: Path) -> None:
    """An open loop whose answers take longer and longer, as the queue before them does."""
    point = load(300, rate=50.0)

    def later(row: RequestRecord) -> RequestRecord:
        sent = row.sent_s or 0.0
        return warped([row], lambda t: t if t <= sent else t + 0.8 * sent)[0]

    rows = [later(row) for row in serve(point, 1)]
    found = check(write_rounds(tmp_path, point, [rows]), "STEADY_STATE")
    assert found.verdict == "doubt" and "Requests pile up" in found.message
    assert found.numbers["in_flight_late"] > 2 * found.numbers["in_flight_early"]


@pytest.mark.parametrize(("cohorts", "expected"), [(1, 1.0), (2, 0.5), (4, 0.25)])
def test_synchrony_of_equal_cohorts(cohorts: int, expected: float) -> None:
    slots, waves = 16, 200
    draw = np.random.default_rng(3)
    phase = np.repeat(np.arange(cohorts) / cohorts, slots // cohorts) if cohorts < 3 else draw.uniform(size=slots)
    steps = np.arange(waves)[:, None] + (phase[None, :] if cohorts < 3 else draw.uniform(size=(waves, slots)))
    found = synchrony(steps.ravel() + draw.normal(0, 0.001, steps.size), slots)
    assert found is not None
    if cohorts == 1:
        assert found == pytest.approx(expected, abs=0.05)
    else:
        assert found < expected + 0.05


def test_synchrony_needs_two_waves() -> None:
    assert synchrony(np.zeros(31), 16) is None and synchrony(np.zeros(8), 4) is None
    assert synchrony(np.zeros(64), 16) is None  # all at one time: there is no cycle


def test_a_stall_is_named_with_its_time_and_length(tmp_path: Path) -> None:
    found = check(runs_of(tmp_path, fault=lambda rows: stopped(rows, 3.0, 0.25), only=[2, 4]), "STALL")
    assert [(one["round"], one["whole"]) for one in found.numbers["stalls"]] == [(2, True), (4, True)]
    assert found.numbers["stalls"][0]["seconds"] == pytest.approx(3.0, abs=0.1)
    assert "in round 2, of the whole engine" in found.message


def test_a_stall_of_one_answer(tmp_path: Path) -> None:
    def fault(rows: Records) -> Records:
        first = rows[70].first_token_s or 0.0
        stuck = warped([rows[70]], lambda t: t if t <= first + 0.05 else t + 2.0)
        return [*rows[:70], *stuck, *rows[71:]]

    found = check(runs_of(tmp_path, fault=fault, only=[1]), "STALL")
    assert found.verdict == "doubt" and "in 1 answer" in found.message


def test_many_pauses_are_how_an_engine_works(tmp_path: Path) -> None:
    """After every second it computes something else for 1.5 s."""
    made = runs_of(tmp_path, fault=lambda rows: warped(rows, lambda t: t + 1.5 * (t // 1)))
    found = check(made, "STALL")
    assert found.verdict == "note" and "too many for an accident" in found.message


def test_a_slow_first_wave_that_is_cut_is_a_note(tmp_path: Path) -> None:
    def fault(rows: Records) -> Records:
        return slow_first(rows, 8)

    found = check(runs_of(tmp_path / "staggered", fault=fault), "WARMUP")
    assert found.verdict == "note" and "no number contains them" in found.message
    at_once = {"staggered": False}
    found = check(runs_of(tmp_path / "at once", fault=fault, served=at_once), "WARMUP")
    assert found.verdict == "doubt" and "TPOT" in found.message and "TTFT" not in found.message
    assert check(runs_of(tmp_path / "clean", served=at_once), "WARMUP").verdict == "ok"


def test_a_pause_no_longer_than_prefills_take_is_no_stall(tmp_path: Path) -> None:
    """Another prompt of 1.5 s interrupts one answer; a pause in a run of quick prompts would be out of proportion."""

    def fault(rows: Records) -> Records:
        first = rows[70].first_token_s or 0.0
        return [*rows[:70], *warped([rows[70]], lambda t: t if t <= first + 0.05 else t + 1.5), *rows[71:]]

    slow = runs_of(tmp_path / "slow", fault=fault, only=[1], served={"ttft_s": 1.0})
    assert check(slow, "STALL").verdict == "ok"
    assert check(runs_of(tmp_path / "quick", fault=fault, only=[1]), "STALL").verdict == "doubt"


def test_rounds_that_agree_by_luck_are_no_proof_of_a_change(tmp_path: Path) -> None:
    """Three times the same short and noisy run: its halves differ, and so do the parts of each half."""
    rows = serve(load(20, 1), 2, noise=1.0, lengths=(2, 60))
    found = check(write_rounds(tmp_path, load(20, 1), [rows] * 3), "STEADY_STATE")
    assert abs(found.numbers["change"]) >= 0.1 and found.numbers["change_p"] > 0.05
    assert found.verdict == "ok"
