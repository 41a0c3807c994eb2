"""The schedule is a pure function of the workload: same seed, same bytes."""

import time
from collections import Counter
from dataclasses import MISSING, fields, replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.workload.enough import Enough
from harness.workload.loads import ClosedLoop, Load, OpenLoop
from harness.workload.plan import PRESETS, read_plan
from harness.workload.schedule import Request, Schedule, build_schedule, warmup_schedule
from harness.workload.spec import Workload
from tests.loads import load, whole_digest
from tests.workload.schedule_parts import POINT, TRACED, WORDS, WORK

# Pinned: another digest means that results measured before and after are not comparable.
DIGEST = "65f797cc32fab03923cb603a0c8d8f50e30718f48b23ba7f2f576f23f17220df"


def test_digest_is_pinned() -> None:
    assert build_schedule(WORK, POINT, 1, WORDS).digest == DIGEST


def test_everything_that_changes_the_question_changes_the_digest() -> None:
    others = [
        build_schedule(replace(WORK, seed=2), POINT, 1, WORDS),
        build_schedule(replace(WORK, output_tokens=5), POINT, 1, WORDS),
        build_schedule(WORK, msgspec.structs.replace(POINT, concurrency=3), 1, WORDS),
        build_schedule(WORK, POINT, 2, WORDS),
        build_schedule(WORK, POINT, 1, range(10, 499)),
        warmup_schedule(WORK, POINT, 1, WORDS),
    ]
    assert len({DIGEST, *(s.digest for s in others)}) == len(others) + 1


def test_no_prompt_is_ever_repeated() -> None:
    schedules = [build_schedule(WORK, p, r, WORDS) for p in (POINT, load(5, 4)) for r in (1, 2)]
    schedules += [warmup_schedule(WORK, POINT, r, WORDS) for r in (1, 2)]
    prompts = [request.prompt_ids for s in schedules for request in s.requests]
    assert len(set(prompts)) == len(prompts)


def test_shape() -> None:
    schedule = build_schedule(WORK, POINT, 1, WORDS)
    assert [r.index for r in schedule.requests] == [0, 1, 2, 3, 4]
    assert {len(r.prompt_ids) for r in schedule.requests} == {16}
    assert all(i in WORDS for r in schedule.requests for i in r.prompt_ids)
    assert schedule.in_flight == 2
    warm = warmup_schedule(WORK, POINT, 1, WORDS)
    assert (len(warm.requests), warm.slots) == (2, 2)
    assert {r.output_tokens for r in warm.requests} == {4}
    assert {len(r.prompt_ids) for r in warm.requests} == {16}


def test_offline_batch_has_no_slot_limit() -> None:
    offline = build_schedule(WORK, load(5), 1, WORDS)
    assert offline.slots is None
    assert offline.in_flight == 5


def test_the_digest_of_a_comparison_covers_every_schedule() -> None:
    two = replace(WORK, load=(POINT, load(5)))
    digests = {whole_digest(w, rounds, WORDS) for w in (WORK, two) for rounds in (1, 2)}
    assert len(digests) == 4
    assert whole_digest(WORK, 1, WORDS) != whole_digest(WORK, 1, range(11, 500))


# -- every kind of load ---------------------------------------------------------------------------------------

# Names and digests of one load point of each kind, each other than all the others.
EVERY = {
    "c4": load(8, 4),
    "c4-ramp10s": load(8, 4, ramp_s=10.0),
    "c4-cancel50pct": load(8, 4, cancel_fraction=0.5, cancel_after_s=1.0),
    "offline": load(8),
    "b4": load(8, batch=4),
    "r2": load(8, rate=2.0),
    "r2-c16": load(8, 16, rate=2.0),
    "r2-constant": load(8, rate=2.0, arrivals="constant"),
    "r2-gamma0.5": load(8, rate=2.0, arrivals="gamma", burstiness=0.5),
    "r2-gamma1": load(8, rate=2.0, arrivals="gamma"),
    "r2-to-20": load(8, rate=2.0, ramp_to=20.0),
    "r2-30s": load(rate=2.0, duration_s=30.0),
    "r0.25-constant-to-0.5-c3-30s-cancel7pct": load(
        None, 3, rate=0.25, arrivals="constant", ramp_to=0.5, duration_s=30.0, cancel_fraction=0.07, cancel_after_s=1.0
    ),
    "trace": load(arrivals="trace"),
    "trace-r5": load(rate=5.0, arrivals="trace"),
    "trace-r5-c2": load(None, 2, rate=5.0, arrivals="trace"),
    "trace-3s": load(arrivals="trace", duration_s=3.0),
}


def test_names_say_what_sets_a_load_apart() -> None:
    assert [point.name for point in EVERY.values()] == list(EVERY)
    assert all(c.isalnum() or c in ".-" for name in EVERY for c in name)


@pytest.mark.parametrize("point", EVERY.values(), ids=EVERY)
def test_same_seed_same_bytes_and_another_seed_others(point: Load) -> None:
    again = msgspec.structs.replace(point)
    schedule = build_schedule(TRACED, point, 1, WORDS)
    assert schedule == build_schedule(TRACED, again, 1, WORDS)
    others = [
        build_schedule(replace(TRACED, seed=2), point, 1, WORDS),
        build_schedule(TRACED, point, 2, WORDS),
        warmup_schedule(TRACED, point, 1, WORDS),
    ]
    assert len({schedule.digest, *(s.digest for s in others)}) == 4
    prompts = [r.prompt_ids for s in (schedule, *others) for r in s.requests]
    assert len(set(prompts)) == len(prompts)


def test_no_two_kinds_ask_the_same() -> None:
    assert len({build_schedule(TRACED, p, 1, WORDS).digest for p in EVERY.values()}) == len(EVERY)


VOCABULARY = range(100, 4000)


def test_the_shipped_comparisons_still_ask_what_they_asked() -> None:
    """Pinned: these are the requests of results that are published."""
    shapes = [load(6, 1), load(8, 2), load(16, 4), load(24, 8), load(32, 16), load(32)]
    before = Workload(input_tokens=64, output_tokens=48, load=tuple(shapes))  # the default until lengths were drawn
    assert whole_digest(before, 3, VOCABULARY) == "27b95fe6996d0861b28912e8103b28ec15ebe4cf566f5c0475835f81dd5909cb"
    warm = [warmup_schedule(before, point, 1, VOCABULARY).digest[:12] for point in before.load]
    assert warm == ["7c7af284c20e", "49b31a175523", "97a5e5317f8d", "475f46ed6c15", "02fb8b2936a7", "92050192b063"]
    plan = read_plan(PRESETS / "default.toml")
    assert whole_digest(plan.workload, plan.rounds, VOCABULARY)[:12] == "cd696fa014a2"


# Pinned, of the kinds whose times are no logarithms (which may differ in the last bit on another system).
PINNED = {
    "c4": "cdf58f505779",
    "c4-ramp10s": "74e363a7524f",
    "c4-cancel50pct": "19851f0ec0cf",
    "offline": "3afd6de78448",
    "b4": "94e90403fc98",
    "r2-constant": "3d4c4577ec5a",
    "r0.25-constant-to-0.5-c3-30s-cancel7pct": "c6cb9b31365e",
    "trace": "379a077eee4e",
    "trace-r5": "b23f665efc55",
    "trace-r5-c2": "51a6e894c9bb",
    "trace-3s": "b37789d42838",
}


def test_the_digest_of_each_kind_of_load_is_pinned() -> None:
    assert {name: build_schedule(TRACED, EVERY[name], 1, WORDS).digest[:12] for name in PINNED} == PINNED


@pytest.mark.parametrize("field", [f.name for f in fields(Schedule) if f.name != "requests"])
def test_limits_of_a_schedule_are_in_its_digest(field: str) -> None:
    schedule = build_schedule(WORK, POINT, 1, WORDS)
    changed: dict[str, Any] = {field: Enough(7, 1.0) if field == "enough" else 7}
    assert replace(schedule, **changed).digest != schedule.digest


def with_last(schedule: Schedule, **changed: Any) -> Schedule:
    *others, last = schedule.requests
    return replace(schedule, requests=(*others, replace(last, **changed)))


def test_what_a_request_has_beside_its_prompt_is_in_the_digest() -> None:
    schedule = build_schedule(WORK, POINT, 1, WORDS)
    changes: list[dict[str, Any]] = [
        {},
        {"cancel_after_s": 1.0},
        {"scheduled_s": 1.0},
        {"after": (0,)},
        {"after": (1,)},
        {"after": (0, 1)},
        {"after": (0,), "think_s": 1.0},
        {"after": (0,), "think_s": 2.0},
    ]
    assert len({with_last(schedule, **changed).digest for changed in changes}) == len(changes)


def test_what_a_schedule_does_not_use_is_not_in_its_digest() -> None:
    """Else every optional field that is added would give results of before another digest."""
    schedule = build_schedule(WORK, POINT, 1, WORDS)
    unused: dict[str, Any] = {"after": (), "think_s": 0.0, "cancel_after_s": None}
    assert {f.name for f in fields(Request) if f.default is not MISSING} == {*unused, "scheduled_s"}
    same = tuple(replace(request, **unused) for request in schedule.requests)
    assert replace(schedule, requests=same, duration_s=None, ramp_s=0.0).digest == DIGEST


# -- closed loop, batches, cancellation -----------------------------------------------------------------------


def test_slots_that_open_over_time_are_no_times_of_requests() -> None:
    schedule = build_schedule(WORK, load(6, 4, ramp_s=10.0), 1, WORDS)
    assert (schedule.ramp_s, {r.scheduled_s for r in schedule.requests}) == (10.0, {None})


def test_static_batches() -> None:
    point = load(12, batch=4)
    schedule = build_schedule(WORK, point, 1, WORDS)
    first, second = (0, 1, 2, 3), (4, 5, 6, 7)
    assert [r.after for r in schedule.requests] == [()] * 4 + [first] * 4 + [second] * 4
    assert {r.think_s for r in schedule.requests} == {0.0}
    assert schedule.slots is None
    assert {r.scheduled_s for r in schedule.requests} == {None}
    assert schedule.in_flight == schedule.connections == point.most_in_flight() == 4
    warm = warmup_schedule(WORK, point, 1, WORDS)
    assert len(warm.requests) == 4


@given(n=st.integers(1, 300), fraction=st.floats(0.0, 1.0), seed=st.integers(0, 10**6))
def test_the_fraction_asked_for_is_cancelled(n: int, fraction: float, seed: int) -> None:
    point = ClosedLoop(requests=n, concurrency=2, cancel_fraction=fraction, cancel_after_s=0.5)
    work = Workload(input_tokens=1, output_tokens=1, load=(point,), seed=seed)
    chosen = Counter(r.cancel_after_s for r in build_schedule(work, point, 1, WORDS).requests)
    assert chosen[0.5] == round(fraction * n)
    assert chosen.total() == n


def test_who_cancels_is_drawn() -> None:
    point = load(100, 2, cancel_fraction=0.3, cancel_after_s=0.5)
    sets = {
        tuple(r.index for r in build_schedule(replace(WORK, seed=seed), point, 1, WORDS).requests if r.cancel_after_s)
        for seed in range(20)
    }
    assert len(sets) == 20
    assert {i for chosen in sets for i in chosen} == set(range(100))


def test_a_warm_up_is_short_and_waits_for_nothing() -> None:
    for point in EVERY.values():
        warm = warmup_schedule(TRACED, point, 1, WORDS)
        assert warm.requests
        assert warm.duration_s is None
        assert {(r.scheduled_s, r.after, r.think_s, r.cancel_after_s) for r in warm.requests} == {(None, (), 0.0, None)}
        assert {r.output_tokens for r in warm.requests} <= {5, 6, 7, 8}
        assert len(warm.requests) <= TRACED.in_flight(point)
    assert len(warmup_schedule(WORK, load(500, rate=9.0), 1, WORDS).requests) == 32


@pytest.mark.parametrize("point", [*EVERY.values(), load(3000, 2000), load(3000), load(3000, rate=9.0)])
def test_in_flight_and_connections_are_known_without_the_schedule(point: Load) -> None:
    schedule = build_schedule(TRACED, point, 1, WORDS)
    assert (TRACED.count(point), TRACED.in_flight(point)) == (len(schedule.requests), schedule.in_flight)
    assert TRACED.connections(point) == schedule.connections
    if not (isinstance(point, OpenLoop) and point.arrivals == "trace"):
        assert point.most_in_flight() == schedule.in_flight


def waiting(*after: tuple[int, ...], slots: int | None = None, **same: Any) -> Schedule:
    """A schedule of requests that wait for these."""
    return Schedule(tuple(Request(i, (1,), 1, after=one, **same) for i, one in enumerate(after)), slots)


@pytest.mark.parametrize(
    ("schedule", "most"),
    [
        (waiting(), 0),
        (waiting((), (0,), (1,)), 1),  # a session of three turns
        (waiting((), (), (), (0,), (2,), (4,)), 3),  # sessions of two, one and three turns
        (waiting((), (), (), (0,), (2,), (4,), slots=2), 2),
        (waiting((), (), (), (0,), (2,), (4,), slots=9), 3),
        (waiting((), (), (), (0,), (2,), (4,), think_s=1.0), 3),
        (waiting((), (), (0, 1), (0, 1), (2, 3)), 2),  # batches of two, two and one
        (waiting((), (), (0,), (), ()), 4),  # two sessions, one of two turns, and two of their own
        (waiting((), (), (0, 1), (0, 1), (), (4,), (), slots=None), 4),  # batches of two, a session, one of its own
        (waiting((), (0,), (0,), (0,)), 3),  # all of them wait for a first one
        (waiting((), (), (), (), (0, 1, 2, 3)), 4),  # one waits for all others
        (waiting((), (0,), (0,), (1,), (1,), (2,), (2,)), 4),  # each is waited for by two
        (waiting((), (0,), (0,), (0,), (1, 2, 3), (), (5,), (5,), (5,), (6, 7, 8)), 6),  # twice one, three, one
    ],
)
def test_the_most_in_flight_are_known_of_sessions_batches_and_mixtures(schedule: Schedule, most: int) -> None:
    assert (schedule.in_flight, schedule.connections) == (most, most)


def test_scheduled_sessions_do_not_open_a_connection_each() -> None:
    first = tuple(Request(i, (1,), 1, scheduled_s=0.1 * i) for i in range(3000))
    second = tuple(Request(3000 + i, (1,), 1, after=(i,), think_s=1.0) for i in range(3000))
    assert Schedule(first + second, None).in_flight == 3000
    assert Schedule(first + second, None).connections == 1024
    assert Schedule(first + second, 2000).connections == 2000


def test_an_open_loop_does_not_open_a_connection_for_each_request() -> None:
    assert build_schedule(WORK, load(3000, rate=9.0), 1, WORDS).connections == 1024
    assert build_schedule(WORK, load(3000, 2000), 1, WORDS).connections == 2000
    assert build_schedule(WORK, load(3000), 1, WORDS).connections == 3000


def test_big_schedules_are_built_in_time() -> None:
    """A command's first request is due a second after it was typed; ten times the usual time is allowed."""
    start = time.process_time()
    build_schedule(WORK, load(2048, 64), 1, WORDS)
    assert time.process_time() - start < 0.5
