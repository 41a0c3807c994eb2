"""Several driver processes: one merged result, and none outlives the one that started it."""

import os
import resource
import select
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from harness.decode.exchange import decode
from harness.driver.address import Address, local
from harness.driver.http import by_ids, job_of
from harness.driver.job import Job
from harness.driver.workers import Worker, replay_split, split
from harness.errors import HarnessError
from harness.nullengine.calibrate import DIALECT, errors, key_of, null_server, read_truth
from harness.workload.enough import Enough
from harness.workload.schedule import Request, Schedule

pytestmark = pytest.mark.live


def schedule_of(count: int, slots: int | None, tokens: int = 8) -> Schedule:
    return Schedule(tuple(Request(i, tuple(range(i, i + 8)), tokens) for i in range(count)), slots)


def job(endpoint: Address, schedule: Schedule) -> Job:
    return job_of(endpoint, by_ids(DIALECT), schedule, 10.0)


def test_the_shares_are_the_whole() -> None:
    whole = job(local(1), schedule_of(11, 7))
    shares = split(whole, 3)
    assert sorted(order.index for share in shares for order in share.orders) == list(range(11))
    assert sum(share.slots or 0 for share in shares) == 7
    assert sum(share.connections for share in shares) == 7
    assert all(share.slots for share in shares)


@pytest.mark.parametrize(("count", "slots", "workers"), [(8, 2, 3), (2, None, 3)])
def test_a_worker_without_work_is_refused(count: int, slots: int | None, workers: int) -> None:
    with pytest.raises(HarnessError, match=r"in flight; use at most \d"):
        split(job(local(1), schedule_of(count, slots)), workers)


def requests_after(*after: tuple[int, ...]) -> tuple[Request, ...]:
    return tuple(Request(i, (1,), 5, after=one) for i, one in enumerate(after))


def test_static_batches_want_one_worker() -> None:
    requests = requests_after((), (), (0, 1), (0, 1), (2, 3), (2, 3))
    with pytest.raises(HarnessError) as caught:
        split(job(local(1), Schedule(requests, None)), 2)
    assert str(caught.value) == (
        "2 workers, but the requests wait for each other in 1 chains, as static batches do; use at most 1."
    )
    (whole,) = split(job(local(1), Schedule(requests, None)), 1)
    assert whole.orders == job(local(1), Schedule(requests, None)).orders


def indices(shares: list[Job]) -> list[list[int]]:
    return [[order.index for order in share.orders] for share in shares]


def test_each_worker_has_its_share_of_what_is_enough() -> None:
    whole = job(local(1), replace(schedule_of(11, 7), enough=Enough(8, 3.0)))
    assert [share.enough for share in split(whole, 3)] == [Enough(3, 3.0), Enough(3, 3.0), Enough(2, 3.0)]
    assert [share.enough for share in split(job(local(1), schedule_of(11, 7)), 2)] == [None, None]


def test_two_processes_stop_when_it_is_enough(tmp_path: Path) -> None:
    schedule = replace(schedule_of(400, 8, tokens=4), enough=Enough(24, 0.6), duration_s=5.0)
    with null_server(0.05, 0.01) as endpoint:
        replayed = replay_split(job(endpoint, schedule), 2, tmp_path)
    records = list(decode(replayed, schedule, DIALECT.parse))
    assert 24 <= len(records) < 200 and all(r.status == "ok" for r in records)
    assert all(0.6 <= part.wall_s < 2 for part in replayed)


def test_a_session_stays_with_one_worker() -> None:
    # Sessions 0-3-5, 1, 2-4-6-7 and 8-9, as their turns might come.
    requests = requests_after((), (), (), (0,), (2,), (3,), (4,), (6,), (), (8,))
    whole = job(local(1), Schedule(requests, 3))
    shares = split(whole, 2)
    assert indices(shares) == [[0, 2, 3, 4, 5, 6, 7], [1, 8, 9]]
    assert [share.slots for share in shares] == [2, 1]
    for share in shares:
        held = {order.index for order in share.orders}
        assert all(held.issuperset(order.after) for order in share.orders)
    assert indices(split(whole, 3)) == [[0, 3, 5, 8, 9], [1], [2, 4, 6, 7]]


def test_no_more_workers_than_sessions() -> None:
    requests = requests_after((), (), (0,), (1,), (2,), (3,))
    with pytest.raises(HarnessError, match=r"^3 workers, but the requests wait for each other in 2 chains, as static"):
        split(job(local(1), Schedule(requests, None)), 3)
    assert indices(split(job(local(1), Schedule(requests, None)), 2)) == [[0, 2, 4], [1, 3, 5]]


def test_what_waits_for_two_chains_joins_them() -> None:
    requests = requests_after((), (), (), (0, 1), (1,), (2,))
    assert indices(split(job(local(1), Schedule(requests, None)), 2)) == [[0, 1, 3, 4], [2, 5]]


def test_orders_that_wait_for_none_are_dealt_out_in_turn() -> None:
    shares = split(job(local(1), schedule_of(11, 7)), 3)
    assert indices(shares) == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8]]
    assert [(share.slots, share.connections, share.drivers) for share in shares] == [(3, 3, 3), (2, 2, 3), (2, 2, 3)]


def test_sessions_are_replayed_by_two_processes(tmp_path: Path) -> None:
    requests = tuple(Request(i, (i, 1), 4, after=(i - 4,) if i >= 4 else (), think_s=0.1 * (i >= 4)) for i in range(12))
    schedule = Schedule(requests, 4)
    with null_server(0.02, 0.01) as endpoint:
        replayed = replay_split(job(endpoint, schedule), 2, tmp_path)
    records = sorted(decode(replayed, schedule, DIALECT.parse), key=lambda r: r.index)
    assert [(r.index, r.error, r.output_tokens) for r in records] == [(i, None, 4) for i in range(12)]
    for before, after in zip(records, records[4:], strict=False):
        assert (after.sent_s or 0) >= (after.due_s or 9) > (before.done_s or 9) + 0.1 - 1e-8


def test_two_processes_bring_one_result_that_agrees_with_the_server(tmp_path: Path) -> None:
    with null_server(0.05, 0.01) as endpoint:
        schedule = schedule_of(24, 8)
        whole = job(endpoint, schedule)
        replayed = replay_split(whole, 2, tmp_path)
        truths = read_truth(endpoint)
    records = sorted(decode(replayed, schedule, DIALECT.parse), key=lambda r: r.index)
    assert [(r.index, r.error, r.output_tokens) for r in records] == [(i, None, 8) for i in range(24)]
    assert len(replayed) == 2
    assert replayed[0].start_ns == replayed[1].start_ns
    first = [min(r.sent_s or 9 for r in records if r.index % 2 == k) for k in (0, 1)]
    assert min(first) >= 0 and max(first) < 1.0  # both begin at the common zero
    keys = {order.index: key_of(order.payload.split(b"\r\n\r\n", 1)[1]) for order in whole.orders}
    found = errors(records, keys, truths, (0.05, 0.01))
    assert len(found.ttft_s) == 24
    assert -0.001 < found.ttft_s.min() < 0.03
    assert list(tmp_path.iterdir()) == []  # the spools have no name


def test_a_worker_that_dies_is_one_line_and_takes_the_others_along() -> None:
    with null_server(5.0, 0.01) as endpoint, Worker() as one, Worker() as other:
        for worker, part in zip((one, other), split(job(endpoint, schedule_of(4, 4)), 2), strict=True):
            worker.prepare(part)
            worker.wait_ready()
            worker.start(time.monotonic_ns())
        os.kill(one.process.pid, signal.SIGKILL)
        with pytest.raises(HarnessError, match=r"a driver process exited unexpectedly \(status -9\)"):
            one.result()
    assert other.process.returncode is not None


def test_interrupted_workers_hand_over_what_they_have() -> None:
    with null_server(0.05, 0.05) as endpoint, Worker() as worker:
        worker.prepare(job(endpoint, schedule_of(4, 2, tokens=40)))
        worker.wait_ready()
        worker.start(time.monotonic_ns())
        time.sleep(0.5)
        worker.interrupt()
        done = worker.result()
        found = sorted(decode([done], schedule_of(4, 2, tokens=40), DIALECT.parse), key=lambda r: r.index)
    assert [r.error for r in found] == ["interrupted", "interrupted"]
    assert all(r.output_tokens > 3 for r in found)


@pytest.mark.parametrize("when", ["before its zero", "after its end"])
def test_a_worker_interrupted_before_or_after_hands_over_what_there_is(when: str) -> None:
    with null_server(0.01, 0.01) as endpoint, Worker() as worker:
        worker.prepare(job(endpoint, schedule_of(4, 2)))
        worker.wait_ready()
        if when == "before its zero":
            worker.interrupt()
        worker.start(time.monotonic_ns())
        if when == "after its end":
            assert select.select([worker.answering], [], [], 30)[0]
            worker.interrupt()
        done = worker.result()
        found = list(decode([done], schedule_of(4, 2), DIALECT.parse))
    assert [r.error for r in found] == ([None] * 4 if when == "after its end" else [])


def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    code = (
        "import time, sys\n"
        "from harness.driver.workers import Worker\n"
        "from harness.driver.job import Job\n"
        "from harness.driver.address import local\n"
        "w = Worker(); w.prepare(Job(local(9), (), None, 0, 1.0)); w.wait_ready()\n"
        "print(w.process.pid, flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    until = time.monotonic() + 30
    while Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_disk_that_fills_up_is_one_line() -> None:
    with null_server(0.01, 0.01) as endpoint, Worker() as worker:
        worker.prepare(job(endpoint, schedule_of(4, 2)))
        worker.wait_ready()
        resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE, (100, 100))  # bytes that it may write to a file
        worker.start(time.monotonic_ns())
        with pytest.raises(HarnessError, match="a driver process failed: File too large"):
            worker.result()
