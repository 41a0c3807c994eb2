"""When the requests of an open loop or of a trace are sent, and what a trace says of them."""

import statistics
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.workload.loads import Load
from harness.workload.schedule import build_schedule, warmup_schedule
from harness.workload.spec import Workload
from harness.workload.traces import TraceRequest
from tests.loads import load
from tests.workload.schedule_parts import TRACED, WORDS, WORK

RANDOM_KINDS: list[dict[str, Any]] = [
    {"arrivals": "poisson"},
    {"arrivals": "gamma", "burstiness": 0.5},
    {"arrivals": "gamma", "burstiness": 4.0},
]
KINDS: list[dict[str, Any]] = [{"arrivals": "constant"}, *RANDOM_KINDS]


def times(point: Load, seed: int = 1, work: Workload | None = None) -> list[float]:
    """When the requests of a schedule without long prompts are sent."""
    work = work or Workload(input_tokens=1, output_tokens=1, load=(point,))
    found = [r.scheduled_s for r in build_schedule(replace(work, seed=seed), point, 1, WORDS).requests]
    assert None not in found
    return [t for t in found if t is not None]


def gaps(arrivals: list[float]) -> list[float]:
    return [b - a for a, b in zip(arrivals, arrivals[1:], strict=False)]


# -- open loop ------------------------------------------------------------------------------------------------


@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(2, 200),
    rate=st.floats(0.01, 1000.0),
    seed=st.integers(0, 10**6),
)
def test_the_rate_asked_for_is_offered(kind: dict[str, Any], n: int, rate: float, seed: int) -> None:
    arrivals = times(load(n, rate=rate, **kind), seed)
    assert len(arrivals) == n
    assert arrivals[0] == 0.0
    assert arrivals == sorted(arrivals)
    assert (n - 1) / arrivals[-1] == pytest.approx(rate, rel=1e-9)


@given(
    kind=st.sampled_from(KINDS),
    rate=st.floats(0.5, 50.0),
    ramp_to=st.none() | st.floats(0.5, 50.0),
    duration_s=st.floats(1.0, 20.0),
)
def test_a_duration_holds_as_many_requests_as_its_rate_says(
    kind: dict[str, Any], rate: float, ramp_to: float | None, duration_s: float
) -> None:
    point = load(rate=rate, ramp_to=ramp_to, duration_s=duration_s, **kind)
    mean = rate if ramp_to is None else (rate + ramp_to) / 2
    if point.count() == 0:
        assert mean * duration_s <= 0.5
        return
    schedule = build_schedule(replace(WORK, input_tokens=1), point, 1, WORDS)
    assert len(schedule.requests) == round(mean * duration_s) == point.count() == point.most_in_flight()
    assert schedule.duration_s == duration_s
    arrivals = times(point)
    assert arrivals == sorted(arrivals)
    assert 0.0 == arrivals[0] <= arrivals[-1] < duration_s


def test_constant_arrivals_are_i_over_rate() -> None:
    assert times(load(7, rate=3.0, arrivals="constant")) == [i / 3.0 for i in range(7)]


@pytest.mark.parametrize(("kind", "shape"), list(zip(RANDOM_KINDS, (1.0, 0.5, 4.0), strict=True)))
def test_gaps_vary_as_the_kind_says(kind: dict[str, Any], shape: float) -> None:
    """A gamma distribution's coefficient of variation is 1/sqrt(shape), an exponential's is 1; over 20,000
    gaps its standard error is below 2 %."""
    between = gaps(times(load(20_000, rate=5.0, **kind)))
    variation = statistics.stdev(between) / statistics.mean(between)
    assert variation == pytest.approx(shape**-0.5, rel=0.06)
    # Neighbours know nothing of each other: the lag-1 correlation of independent gaps is 0 +- 0.007.
    assert abs(statistics.correlation(between[:-1], between[1:])) < 0.03


def test_a_tenth_of_exponential_gaps_is_short() -> None:
    between = gaps(times(load(20_000, rate=1.0)))
    assert sum(gap < 0.1054 for gap in between) / len(between) == pytest.approx(0.1, abs=0.01)  # -ln 0.9


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("start", "end"), [(2.0, 20.0), (20.0, 2.0), (5.0, 5.0)])
def test_a_ramp_is_linear(kind: dict[str, Any], start: float, end: float) -> None:
    """Of N arrivals, N (a + 3b) / (4a + 4b) come in the second half; of constant ones, to within one."""
    n = 5000
    arrivals = times(load(n, rate=start, ramp_to=end, **kind))
    whole = n / ((start + end) / 2)
    late = sum(t >= whole / 2 for t in arrivals)
    expected = n * (start + 3 * end) / (4 * (start + end))
    assert arrivals == sorted(arrivals)
    assert arrivals[-1] < whole
    assert late == pytest.approx(expected, abs=1.01 if kind.get("arrivals") == "constant" else 0.03 * n)


def test_a_level_ramp_is_the_plain_rate() -> None:
    level = times(load(50, rate=4.0, ramp_to=4.0, arrivals="constant"))
    assert level == pytest.approx(times(load(50, rate=4.0, arrivals="constant")), rel=1e-12)


def test_requests_or_duration_whichever_is_first() -> None:
    both = load(10, rate=4.0, arrivals="constant", duration_s=30.0)
    assert both.name == "r4-constant"
    assert times(both) == [i / 4.0 for i in range(10)]
    assert len(times(msgspec.structs.replace(both, duration_s=2.0))) == 8
    ramp = times(msgspec.structs.replace(both, ramp_to=8.0))  # its 30 s, of which 10 requests see the start
    assert ramp[-1] == pytest.approx(9 / 4.0, rel=0.05)


def test_bursts_too_small_for_a_float_still_end_on_time() -> None:
    for seed in range(300):
        assert times(load(2, rate=1.0, arrivals="gamma", burstiness=0.01), seed) == [0.0, 1.0]


def test_every_seed_round_and_load_point_has_arrivals_of_its_own() -> None:
    points = [load(9, rate=2.0), load(9, 3, rate=2.0)]
    schedules = [build_schedule(replace(WORK, seed=s), p, r, WORDS) for s in (1, 2) for p in points for r in (1, 2)]
    assert len({tuple(request.scheduled_s for request in s.requests) for s in schedules}) == 8


def test_a_single_arrival_is_at_the_start() -> None:
    assert all(times(load(1, rate=2.0, **kind)) == [0.0] for kind in KINDS)


def test_an_open_loop_has_no_slots_unless_capped() -> None:
    assert build_schedule(WORK, load(5, rate=2.0), 1, WORDS).slots is None
    assert build_schedule(WORK, load(5, 3, rate=2.0), 1, WORDS).slots == 3


# -- traces ---------------------------------------------------------------------------------------------------


def test_a_trace_gives_times_lengths_and_cancellations() -> None:
    schedule = build_schedule(TRACED, load(arrivals="trace"), 1, WORDS)
    assert [(r.scheduled_s, len(r.prompt_ids), r.output_tokens, r.cancel_after_s) for r in schedule.requests] == [
        (0.0, 20, 5, None),
        (0.5, 10, 6, 0.25),
        (0.5, 30, 7, None),
        (4.0, 40, 8, None),
    ]


def test_a_trace_is_limited_and_drawn_out() -> None:
    assert times(load(2, arrivals="trace"), work=TRACED) == [0.0, 0.5]
    assert times(load(arrivals="trace", duration_s=4.0), work=TRACED) == [0.0, 0.5, 0.5]
    assert times(load(arrivals="trace", rate=1.5), work=TRACED) == [0.0, 0.25, 0.25, 2.0]
    assert times(load(arrivals="trace", rate=1.0, duration_s=2.0), work=TRACED) == [0.0, 1.0]


def test_other_loads_take_lengths_in_order_and_again() -> None:
    schedule = build_schedule(TRACED, load(6, 2), 1, WORDS)
    assert [(len(r.prompt_ids), r.output_tokens) for r in schedule.requests] == [
        (20, 5), (10, 6), (30, 7), (40, 8), (20, 5), (10, 6)
    ]  # fmt: skip
    assert {(r.scheduled_s, r.cancel_after_s) for r in schedule.requests} == {(None, None)}


def test_a_given_length_holds_instead_of_the_traces() -> None:
    fixed = build_schedule(replace(TRACED, input_tokens=3), load(arrivals="trace"), 1, WORDS)
    assert [(len(r.prompt_ids), r.output_tokens) for r in fixed.requests] == [(3, 5), (3, 6), (3, 7), (3, 8)]


def test_prompts_share_the_blocks_that_the_trace_says() -> None:
    traced = (
        TraceRequest(0.0, 600, 1, blocks=(7, 8)),
        TraceRequest(1.0, 700, 1, blocks=(7, 9)),
        TraceRequest(2.0, 100, 1, blocks=(7,)),
        TraceRequest(3.0, 100, 1),
    )
    point = load(8, 1)
    work = replace(TRACED, traced=traced)
    first, second, short, alone, again, *_ = (r.prompt_ids for r in build_schedule(work, point, 1, WORDS).requests)
    assert [len(first), len(second), len(short), len(alone), len(again)] == [600, 700, 100, 100, 600]
    assert first[:512] == second[:512]
    assert first[512:] != second[512:600]
    assert short == first[:100]
    # What the trace did not share must not be cached: another pass, round, load point or the warm-up.
    others = [
        build_schedule(work, point, 2, WORDS),
        build_schedule(work, load(8, 2), 1, WORDS),
        warmup_schedule(work, point, 1, WORDS),
    ]
    starts = [first[:16], alone[:16], again[:16], *(s.requests[0].prompt_ids[:16] for s in others)]
    assert len(set(starts)) == 6
