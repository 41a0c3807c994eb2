"""What the parts cost: reading a stream, building a schedule, summing up a run, driving the null server.

Run by `make bench`; as tests they only show that they still run."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness.decode.exchange import decode
from harness.driver.http import by_ids, job_of
from harness.driver.job import Replayed
from harness.driver.loop import replay
from harness.driver.spool import Exchange, Spool
from harness.nullengine.calibrate import DIALECT, null_server
from harness.records.metrics import measure
from harness.records.run import RunResult
from harness.workload.schedule import Request, Schedule, build_schedule
from harness.workload.spec import Workload
from tests.decode.test_exchange import DONE, event
from tests.invented import ALPHA, manifest, records, write_run
from tests.loads import load
from tests.wire import END, HEAD, chunked

TOKENS = 64


def spooled(requests: int) -> Replayed:
    """Responses of 64 tokens, one to a read, as the driver leaves them."""
    spool = Spool()
    for index in range(requests):
        for i in range(TOKENS):
            data = chunked(event([i], i + 1, "length" if i + 1 == TOKENS else None))
            data = HEAD + data if i == 0 else data + chunked(DONE) + END if i + 1 == TOKENS else data
            spool.batch.append((index, i * 1_000_000, 0, None, data))
        spool.end(Exchange(index, 0, 0, 0, TOKENS * 1_000_000))
        spool.store()
    spool.flush()
    return Replayed(spool, 0, (), 0.0, 1.0)


def test_decode_6400_tokens(benchmark: BenchmarkFixture) -> None:
    replayed = spooled(100)
    schedule = Schedule(tuple(Request(i, (1, 2, 3, 4), TOKENS) for i in range(100)), 4)
    got = benchmark(lambda: list(decode([replayed], schedule, DIALECT.parse)))
    assert [(r.error, r.output_tokens) for r in got] == [(None, TOKENS)] * 100


def test_build_a_schedule_of_2048_requests(benchmark: BenchmarkFixture) -> None:
    point = load(2048, rate=500.0)
    workload = Workload(input_tokens=16, output_tokens=TOKENS, load=(point,))
    built = benchmark(build_schedule, workload, point, 1, range(8000))
    assert len(built.requests) == 2048


def test_sum_up_a_run(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    from harness.records.run import read_run

    point = load(2000, 16)
    write_run(tmp_path, manifest(ALPHA, point), records(ALPHA, point, tokens=TOKENS))

    def summed() -> dict[str, float | None]:
        run: RunResult = read_run(tmp_path)
        return measure(run)

    assert benchmark(summed)["failed_fraction"] == 0.0


@pytest.mark.slow
def test_drive_256_streams(benchmark: BenchmarkFixture) -> None:
    schedule = Schedule(tuple(Request(i, (1, 2, 3, 4), TOKENS) for i in range(256)), 256)
    with null_server(0.02, 0.005) as endpoint:
        job = job_of(endpoint, by_ids(DIALECT), schedule, 30.0)
        done = benchmark.pedantic(lambda: replay(job), rounds=3, iterations=1)
    assert [r.error for r in decode([done], schedule, DIALECT.parse)] == [None] * 256
