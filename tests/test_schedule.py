"""The schedule is a pure function of the workload: same seed, same bytes."""

from dataclasses import replace

from harness.schedule import build_schedule, schedules_digest, warmup_schedule
from harness.workload import LoadPoint, Workload

POINT = LoadPoint(requests=5, concurrency=2)
WORK = Workload(input_tokens=16, output_tokens=4, load=(POINT,))
WORDS = range(10, 500)
# Pinned: another digest means that results measured before and after are not comparable.
DIGEST = "65f797cc32fab03923cb603a0c8d8f50e30718f48b23ba7f2f576f23f17220df"


def test_digest_is_pinned() -> None:
    assert build_schedule(WORK, POINT, 1, WORDS).digest == DIGEST


def test_everything_that_changes_the_question_changes_the_digest() -> None:
    others = [
        build_schedule(replace(WORK, seed=2), POINT, 1, WORDS),
        build_schedule(replace(WORK, output_tokens=5), POINT, 1, WORDS),
        build_schedule(WORK, replace(POINT, concurrency=3), 1, WORDS),
        build_schedule(WORK, POINT, 2, WORDS),
        build_schedule(WORK, POINT, 1, range(10, 499)),
        warmup_schedule(WORK, POINT, 1, WORDS),
    ]
    assert len({DIGEST, *(s.digest for s in others)}) == len(others) + 1


def test_no_prompt_is_ever_repeated() -> None:
    schedules = [build_schedule(WORK, p, r, WORDS) for p in (POINT, LoadPoint(5, 4)) for r in (1, 2)]
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
    offline = build_schedule(WORK, LoadPoint(5), 1, WORDS)
    assert offline.slots is None
    assert offline.in_flight == 5


def test_the_digest_of_a_comparison_covers_every_schedule() -> None:
    two = replace(WORK, load=(POINT, LoadPoint(5)))
    digests = {schedules_digest(w, rounds, WORDS) for w in (WORK, two) for rounds in (1, 2)}
    assert len(digests) == 4
    assert schedules_digest(WORK, 1, WORDS) != schedules_digest(WORK, 1, range(11, 500))
