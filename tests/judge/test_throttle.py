"""THROTTLE: from what the GPU says of its clocks."""

from __future__ import annotations

import pytest

from harness.judge.checks.evidence import Evidence, Outcome
from harness.judge.checks.throttle import throttle
from harness.records.samples import write_samples
from tests.invented import ALPHA, ONE
from tests.invented_runs import Run

IDLE, SET, CAP, HARDWARE, HOT, BOOST = 0x1, 0x2, 0x4, 0x8, 0x20, 0x10


def judged(run: Run, *rounds: tuple[int, ...]) -> Outcome | None:
    runs = []
    for i, bits in enumerate(rounds, 1):
        one = run(ALPHA, ONE, i)
        write_samples(one.folder, [(t / 2, "gpu_clock_limits", float(b)) for t, b in enumerate(bits)])
        runs.append(one)
    return throttle(Evidence(runs, {}))


def test_what_was_not_sampled_is_not_judged(run: Run) -> None:
    assert throttle(Evidence([run()], {})) is None
    assert judged(run, ()) is None


def test_a_gpu_that_was_too_hot_is_a_doubt_with_its_rounds(run: Run) -> None:
    found = judged(run, (0, IDLE, 0, 0), (0, HOT | CAP, HOT | HARDWARE, 0), (0, 0, 0, HOT))
    assert found is not None and found.verdict == "doubt"
    assert found.message == (
        "The GPU was slowed down in 25% of the samples (hardware slowdown, temperature (driver); rounds 2, 3)."
    )
    assert found.numbers["rounds"] == [2, 3] and found.numbers["shares"]["temperature (driver)"] == 0.25


def test_the_power_limit_is_a_note(run: Run) -> None:
    found = judged(run, (CAP, 0), (CAP, CAP))
    assert found is not None and (found.verdict, found.numbers["power_limit_share"]) == ("note", 0.75)


@pytest.mark.parametrize("bits", [0, IDLE, SET, BOOST, IDLE | SET])
def test_idle_or_set_clocks_are_no_fault(run: Run, bits: int) -> None:
    found = judged(run, (bits,))
    assert found is not None and found.verdict == "ok"
