"""Loads that go on for a time instead of a number of requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.workload import spec
from harness.workload.enough import Enough
from harness.workload.lengths import Lengths
from harness.workload.load_base import PREPARED_PER_S, PREPARED_PER_SLOT
from harness.workload.schedule import build_schedule, warmup_schedule
from harness.workload.spec import Workload
from tests.loads import load
from tests.workload.schedule_parts import WORDS

TIMED = {
    "c16": load(None, 16, at_least_s=8.0),
    "c2": load(None, 2, at_least_s=8.0, at_least_requests=900, at_most_s=9.0),
    "b4": load(None, batch=4, at_least_s=8.0),
    "r2": load(rate=2.0, at_least_s=8.0),
}


def test_the_name_says_nothing_of_the_time() -> None:
    assert [one.name for one in TIMED.values()] == list(TIMED)
    assert [one.timed for one in TIMED.values()] == [True, True, True, False]


def test_the_schedule_has_the_limits_and_enough_requests_for_a_fast_engine() -> None:
    work = Workload(input_tokens=8, output_tokens=4, load=tuple(TIMED.values()))
    found = {name: build_schedule(work, one, 1, WORDS) for name, one in TIMED.items()}
    assert found["c16"].enough == Enough(160, 8.0) and found["c16"].duration_s == 32.0
    assert len(found["c16"].requests) == 16 * PREPARED_PER_SLOT * 8
    assert found["c16"].ramp_s == 1.0  # an eighth of the time
    assert found["c2"].enough == Enough(900, 8.0) and found["c2"].duration_s == 9.0
    assert len(found["c2"].requests) == 900 > 8 * PREPARED_PER_S
    assert found["b4"].enough == Enough(40, 8.0) and len(found["b4"].requests) == 8 * PREPARED_PER_S
    # An open loop's number is known beforehand.
    assert found["r2"].enough is None and found["r2"].duration_s is None and len(found["r2"].requests) == 16
    warm = warmup_schedule(work, TIMED["c16"], 1, WORDS)
    assert len(warm.requests) == 16 and warm.enough is None and not warm.ramp_s


@pytest.mark.parametrize(
    ("keys", "count"),
    [
        ({"at_least_requests": 100}, 100),
        ({"at_least_requests": 100, "at_most_s": 30.0}, 60),
        ({"at_least_requests": 3, "at_most_s": 30.0}, 16),
        ({"ramp_to": 4.0}, 24),
    ],
)
def test_an_open_loop_has_the_requests_of_its_time_or_the_number_that_is_needed(
    keys: dict[str, Any], count: int
) -> None:
    assert load(rate=2.0, at_least_s=8.0, **keys).count() == count


def test_the_prompts_of_a_load_are_bounded_but_not_below_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spec, "PREPARED_IDS", 5000)
    slots, batch = load(None, 16, at_least_s=8.0), load(None, batch=7, at_least_s=8.0)
    for given, held in ((8, 625), (Lengths(5, 11), 625), (100, 160)):
        work = Workload(input_tokens=given, output_tokens=4, load=(slots,))
        assert work.count(slots) == len(build_schedule(work, slots, 1, WORDS).requests) == held
    assert Workload(input_tokens=10, output_tokens=4, load=(batch,)).count(batch) == 504  # whole batches


def test_the_words_say_what_it_is_stopped_by() -> None:
    assert TIMED["c16"].words(999) == "closed loop of 16, at least 8 s and 160 requests, at most 32 s"
    assert TIMED["r2"].words(16) == "Poisson arrivals at 2 requests/s, 16 requests"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"concurrency": 2, "requests": 4, "at_least_s": 3.0}, "requests is 4, but at_least_s says how long the load"),
        ({"concurrency": 2, "duration_s": 4.0, "at_least_s": 3.0}, "duration_s is 4.0, but at_least_s says how long"),
        ({"concurrency": 2, "requests": 4, "at_most_s": 3.0}, "at_most_s is 3.0, but at_least_s is missing."),
        ({"batch": 2, "at_least_requests": 3}, "at_least_requests is 3, but at_least_s is missing."),
        ({"concurrency": 2, "at_least_s": 3.0, "at_most_s": 2.0}, "at_most_s is 2.0, which is less than at_least_s = "),
        ({"concurrency": 2, "at_least_s": 0.0}, "at_least_s is 0.0; it must be above 0."),
        ({"concurrency": 2, "at_least_s": 3.0, "at_least_requests": -1}, "at_least_requests is -1; it must be above 0"),
        ({"concurrency": 2, "at_least_s": 3.0, "ramp_s": 3.0}, "but sending may stop after at_least_s = 3.0; not all"),
        ({"at_least_s": 3.0}, "at_least_s is 3.0, but a load without slots or times sends everything at once; give"),
        ({"requests": 3, "at_least_requests": 3}, "at_least_requests is 3, but a load without slots"),
        ({"arrivals": "trace", "at_least_s": 3.0}, "at_least_s is 3.0, but rate is missing: the trace's own times end"),
        ({"rate": 1e6, "at_least_s": 1e6}, "rate 1e+06 for at_least_s 1e+06 makes 1e+12 requests; at most 1,000,000"),
    ],
)
def test_contradictions_get_one_line(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(HarnessError) as caught:
        load(**keys)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_frozen_schedule_keeps_the_limits(tmp_path: Path) -> None:
    from harness.records.schedules import read_schedule, write_schedule

    work = Workload(input_tokens=Lengths(4, 12), output_tokens=4, load=(TIMED["c16"],))
    built = build_schedule(work, TIMED["c16"], 1, WORDS)
    write_schedule(tmp_path / "a.parquet", built)
    assert read_schedule(tmp_path / "a.parquet") == built
