"""Each check's ok, doubt and invalid, from runs made for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from harness.judge.checks.table import RULES
from harness.judge.comparison import compare
from harness.records.request import RequestRecord
from harness.records.run import RunResult
from harness.records.samples import write_samples
from tests.invented import (
    ALPHA,
    BETA,
    FOUR,
    OFFLINE,
    ONE,
    calibration,
    campaign,
    cancelled,
    failed,
    floor,
    manifest,
    open_records,
    records,
)
from tests.invented_runs import Run
from tests.judge.checking import check
from tests.loads import load

MANY = load(200, 4)


def alter(rows: Sequence[RequestRecord], **changes: Any) -> list[RequestRecord]:
    return [replace(row, **changes) for row in rows]


def settings(**changes: Any) -> dict[str, Any]:
    return {**manifest(ALPHA).endpoint.settings, **changes}


def test_clean_runs_are_ok_in_every_check(invented_runs: list[RunResult]) -> None:
    comparison = compare(invented_runs, campaign())
    assert {c.code for cell in comparison.cells for c in cell.checks if c.verdict != "ok"} == {"STEADY_STATE"}
    assert {cell.verdict for cell in comparison.cells} == {"ok", "note"}  # few waves
    # Open loops only; too few requests to have first ones; no count of preemptions; stand-ins; GPUs only.
    absent = {"RATE", "WARMUP", "PREEMPTION", "OWN_KERNELS", "THROTTLE"}
    assert [check.code for check in comparison.cells[0].checks] == [r.code for r in RULES if r.code not in absent]


@pytest.mark.parametrize(("failures", "verdict"), [(0, "ok"), (1, "doubt"), (2, "doubt"), (3, "invalid")])
def test_error_rate(run: Run, failures: int, verdict: str) -> None:
    rows = [failed(row) if row.index < failures else row for row in records(ALPHA, MANY)]  # of 200
    found = check([run(load=MANY, rows=rows)], "ERROR_RATE")
    assert found.verdict == verdict
    assert found.numbers["failed"] == failures
    assert ("out of slots" in found.message) == bool(failures)


def test_requests_given_up_as_planned_are_told_and_no_failure(run: Run) -> None:
    rows = [cancelled(row) if row.index < 100 else row for row in records(ALPHA, MANY)]
    found = check([run(load=MANY, rows=rows)], "ERROR_RATE")
    assert (found.verdict, found.numbers["failed"], found.numbers["cancelled"]) == ("ok", 0, 100)
    assert "100 of 200 were cancelled" in found.message
    rows[199] = failed(rows[199])
    found = check([run(load=MANY, rows=rows)], "ERROR_RATE")
    assert (found.verdict, found.numbers["failed"]) == ("doubt", 1)


@pytest.mark.parametrize(
    ("source", "verdict", "said"),
    [("ids", "ok", "are the same."), ("final usage", "ok", "estimated"), ("events", "doubt", "counted by events")],
)
def test_what_the_tokens_were_counted_by(run: Run, source: str, verdict: str, said: str) -> None:
    found = check([run(rows=alter(records(ALPHA, ONE), count_source=source))], "TOKEN_COUNT")
    assert (found.verdict, found.numbers["count_sources"]) == (verdict, {source: 4})
    assert said in found.message


def test_token_count(run: Run) -> None:
    rows = records(ALPHA, ONE)
    assert check([run(rows=rows)], "TOKEN_COUNT").verdict == "ok"
    assert check([run(rows=alter(rows, reported_tokens=None))], "TOKEN_COUNT").verdict == "doubt"
    assert check([run(rows=[*alter(rows[:1], reported_tokens=4), *rows[1:]])], "TOKEN_COUNT").verdict == "invalid"
    # Counted as received, and not as long as asked for: that is said elsewhere.
    runs = [run(rows=[*alter(rows[:1], output_tokens=4, reported_tokens=4), *rows[1:]])]
    assert check(runs, "TOKEN_COUNT").verdict == "ok" and check(runs, "TOKEN_COUNT").numbers["seen_tokens"] == 19
    assert check(runs, "LENGTH_PARITY").verdict == "invalid"
    found = check([run(rows=alter(rows, output_tokens=6, reported_tokens=None))], "LENGTH_PARITY")
    assert found.verdict == "invalid"  # an engine that reports nothing must still do what was asked


def test_prompt_parity(run: Run) -> None:
    rows = records(ALPHA, ONE)
    assert check([run(rows=rows)], "PROMPT_PARITY").verdict == "ok"
    assert check([run(rows=alter(rows, prompt_tokens=None))], "PROMPT_PARITY").verdict == "doubt"
    found = check([run(rows=alter(rows, prompt_tokens=17))], "PROMPT_PARITY")
    assert found.verdict == "invalid"
    assert "+1" in found.message


def test_prefix_cache(run: Run) -> None:
    rows = records(ALPHA, ONE)
    assert check([run(rows=rows)], "PREFIX_CACHE").verdict == "ok"
    silent = check([run(rows=alter(rows, cached_tokens=None))], "PREFIX_CACHE")
    assert (silent.verdict, silent.numbers["cached_tokens"]) == ("doubt", None)
    assert "does not report cached tokens" in silent.message
    for shared, verdict in ((3, "note"), (16, "doubt")):
        found = check([run(rows=alter(rows, cached_tokens=None), schedule__shared_prefix=shared)], "PREFIX_CACHE")
        assert (found.verdict, f"more than {shared} tokens" in found.message) == (verdict, verdict == "note")
    counted = check([run(rows=alter(rows, cached_tokens=None), counters={"cached_tokens": 0.0})], "PREFIX_CACHE")
    assert (counted.verdict, counted.numbers["cached_tokens"]) == ("ok", 0)
    counted = check([run(rows=alter(rows, cached_tokens=None), counters={"cached_tokens": 16.0})], "PREFIX_CACHE")
    assert counted.verdict == "invalid"
    hit = [*alter(rows[:1], cached_tokens=8), *rows[1:]]
    assert check([run(rows=hit)], "PREFIX_CACHE").verdict == "invalid"
    declared = check([run(rows=hit, endpoint__settings=settings(prefix_cache=True))], "PREFIX_CACHE")
    assert (declared.verdict, declared.numbers["cached_fraction"]) == ("ok", 8 / 64)
    assert check([run(rows=rows, endpoint__settings={})], "PREFIX_CACHE").verdict == "doubt"


@pytest.mark.parametrize(
    ("share", "verdict"), [(0.0, "ok"), (0.019, "ok"), (0.021, "doubt"), (0.099, "doubt"), (0.101, "invalid")]
)
def test_client_lag_is_the_part_of_the_flight_that_the_last_chunk_lay_unread(
    run: Run, share: float, verdict: str
) -> None:
    rows = []
    for row in records(ALPHA, ONE):
        assert row.done_s is not None and row.sent_s is not None
        late = int(share * (row.done_s - row.sent_s) * 1e9)
        *early, last = row.chunks
        rows.append(replace(row, chunks=(*early, last._replace(read_ns=last.arrival_ns + late))))
    found = check([run(rows=rows)], "CLIENT_LAG")
    assert found.verdict == verdict
    assert found.numbers["slot_time_lost"] == pytest.approx(share, abs=0.005 if share == 0 else 1e-6)
    assert "arrival" in found.message


def test_client_lag_in_mid_stream_bends_nothing(run: Run) -> None:
    rows = []
    for row in records(ALPHA, ONE):
        first, *rest = row.chunks
        rows.append(replace(row, chunks=(first._replace(read_ns=first.arrival_ns + 10**9), *rest)))
    assert check([run(rows=rows)], "CLIENT_LAG").verdict == "ok"


def test_client_lag_without_kernel_stamps_is_not_known(run: Run) -> None:
    found = check([run(client__kernel_stamped_fraction=0.5)], "CLIENT_LAG")
    assert found.verdict == "doubt" and "50%" in found.message
    assert check([run(client__kernel_stamped_fraction=1.0)], "CLIENT_LAG").verdict == "ok"


CELL_RATE = 5 / 0.18  # tokens/s of ALPHA alone: 100 ms and 4 gaps of 20 ms


@pytest.mark.parametrize(
    ("changes", "verdict", "said"),
    [
        ({}, "ok", "Its own floor is 0.1% of TTFT and 0.1% of TPOT"),
        ({"ttft_error_p50_s": 0.0021}, "doubt", "2.1% of this TTFT"),
        ({"ttft_error_p50_s": -0.0021}, "doubt", "2.1% of this TTFT"),
        ({"ttft_error_p50_s": 0.0101}, "invalid", "10.1% of this TTFT"),
        ({"tpot_error_p50_s": 0.00041}, "doubt", "2.1% of this TPOT"),
        ({"tpot_error_p50_s": 0.0021}, "invalid", "10.5% of this TPOT"),
        ({"tokens_per_s": CELL_RATE / 1.24}, "ok", "kept up"),
        ({"tokens_per_s": CELL_RATE / 1.26}, "doubt", "calibrated at a lower rate"),
        ({"failed": 2}, "doubt", "2 of 100 requests of the calibration failed"),
        (dict.fromkeys(("ttft_error_p50_s", "tpot_error_p50_s", "tpot_error_p99_s")), "ok", "not known"),
    ],
)
def test_client_lag_against_the_floor(run: Run, changes: dict[str, Any], verdict: str, said: str) -> None:
    found = check([run(client__cpu_s=0.51)], "CLIENT_LAG", calibrated=calibration(floor("c1", **changes)))
    assert found.verdict == verdict
    assert said in found.message
    assert found.numbers["floor"]["tokens_per_s"] == changes.get("tokens_per_s", 10_000.0)


@pytest.mark.parametrize(("error", "verdict"), [(0.0003, "ok"), (0.00043, "doubt"), (0.0021, "doubt")])
def test_the_p99_of_a_short_calibration_warns_and_does_not_condemn(run: Run, error: float, verdict: str) -> None:
    calibrated = calibration(floor("c4", tpot_error_p99_s=error))
    runs = [run(load=MANY, round_index=r) for r in (1, 2, 3)]  # enough requests for a p99
    found = check(runs, "CLIENT_LAG", calibrated=calibrated)
    assert (found.verdict, "of this TPOT p99" in found.message) == (verdict, verdict != "ok")


@pytest.mark.parametrize(
    ("rates", "chosen", "verdict"),
    [
        ((20.0, 100.0, 500.0), 100.0, "ok"),  # just faster than this cell
        ((100.0, 500.0), 100.0, "ok"),
        ((5.0, 10.0, 9.0), 10.0, "doubt"),  # none is fast enough: the fastest one, with a doubt
    ],
)
def test_the_floor_is_that_of_the_pace_just_faster_than_the_cell(
    run: Run, rates: Sequence[float], chosen: float, verdict: str
) -> None:
    made = calibration(*(floor("c1", tokens_per_s=rate) for rate in rates))
    found = check([run(client__cpu_s=0.51)], "CLIENT_LAG", calibrated=made)
    assert (found.numbers["floor"]["tokens_per_s"], found.verdict) == (chosen, verdict)


@pytest.mark.parametrize(
    ("cpu_s", "workers", "verdict"), [(0.49, 1, "ok"), (0.51, 1, "doubt"), (0.98, 2, "ok"), (None, 1, "doubt")]
)
def test_a_client_that_is_mostly_idle_errs_no_more_at_a_higher_rate(
    run: Run, cpu_s: float | None, workers: int, verdict: str
) -> None:
    slow = calibration(floor("c1", tokens_per_s=CELL_RATE / 5))
    made = run(client__cpu_s=cpu_s)
    made = run(client=replace(made.manifest.client, workers=workers))
    assert check([made], "CLIENT_LAG", calibrated=slow).verdict == verdict


def test_client_lag_says_where_it_was_not_calibrated(run: Run) -> None:
    for calibrated in (None, calibration(floor("c99", ttft_error_p50_s=1.0))):
        found = check([run()], "CLIENT_LAG", calibrated=calibrated)
        assert (found.verdict, found.numbers["floor"]) == ("ok", None)
        assert "not calibrated at this load" in found.message


def test_the_null_server_is_not_held_against_its_own_floor(run: Run) -> None:
    found = check([run(candidate__null=True)], "CLIENT_LAG", calibrated=calibration(floor("c1", ttft_error_p50_s=1.0)))
    assert found.verdict == "ok"


OPEN_LOOP = load(200, rate=10.0)


@pytest.mark.parametrize(
    ("late_ms", "verdict"),
    # The median TTFT is 100 ms: 2 % of it is 2 ms, 20 % is 20 ms.
    [(0.0, "ok"), (1.9, "ok"), (2.1, "doubt"), (19.0, "doubt"), (21.0, "invalid")],
)
def test_rate_doubts_late_sends(run: Run, late_ms: float, verdict: str) -> None:
    rows = open_records(ALPHA, 10.0, 200, late_ms=[late_ms] * 200)
    found = check([run(load=OPEN_LOOP, rows=rows)], "RATE")
    assert found.verdict == verdict
    assert found.numbers["dispatch_delay_p99_s"] == pytest.approx(late_ms / 1e3, abs=1e-9)
    assert found.numbers["rate_offered"] == pytest.approx(10.0)


@pytest.mark.parametrize(("stretch", "verdict"), [(1.004, "ok"), (1.006, "doubt"), (1.06, "invalid")])
def test_rate_doubts_another_rate_than_offered(run: Run, stretch: float, verdict: str) -> None:
    slow = replace(ALPHA, ttft_ms=1e7)  # beside which no delay counts
    rows = open_records(slow, 10.0, 200, late_ms=[100.0 * i * (stretch - 1) for i in range(200)])
    found = check([run(load=OPEN_LOOP, rows=rows)], "RATE")
    assert found.verdict == verdict
    assert found.numbers["rate_off"] == pytest.approx(1 - 1 / stretch, rel=1e-6)


def test_a_capped_open_loop_is_late_by_design(run: Run) -> None:
    point = load(200, rate=10.0, concurrency=2)
    rows = open_records(ALPHA, 10.0, 200, late_ms=[500.0] * 200)
    found = check([run(load=point, rows=rows)], "RATE")
    assert found.verdict == "doubt"
    assert "one of 2 slots" in found.message and "latencies from the schedule include that wait" in found.message
    assert check([run(load=point, rows=open_records(ALPHA, 10.0, 200))], "RATE").verdict == "ok"


def test_an_open_loop_has_no_slots_and_a_closed_loop_no_rate(run: Run) -> None:
    runs = [run(), run(load=OPEN_LOOP, rows=open_records(ALPHA, 10.0, 200))]
    comparison = compare(runs, campaign())
    codes = {cell.load: {c.code for c in cell.checks} & {"LITTLE", "RATE"} for cell in comparison.cells}
    assert codes == {"c1": {"LITTLE"}, "r10": {"RATE"}}


def test_rate_of_what_was_never_sent_is_not_known(run: Run) -> None:
    rows = [replace(failed(row), sent_s=None) for row in open_records(ALPHA, 10.0, 5)]
    assert check([run(load=load(5, rate=10.0), rows=rows)], "RATE").verdict == "doubt"


def test_little_of_static_batches_and_of_slots_that_open_slowly(run: Run) -> None:
    drained = records(ALPHA, load(8, 1))
    assert check([run(load=load(8, batch=4), rows=drained)], "LITTLE").verdict == "ok"
    assert check([run(load=load(8, batch=4), rows=records(ALPHA, load(8, 8)))], "LITTLE").verdict == "doubt"
    assert check([run(load=load(8, 4, ramp_s=2.0), rows=drained)], "LITTLE").verdict == "ok"


def test_little(run: Run) -> None:
    assert check([run(load=FOUR)], "LITTLE").verdict == "ok"
    over = check([run(load=FOUR, rows=records(ALPHA, load(8, 8)))], "LITTLE")
    assert (over.verdict, over.numbers["concurrency_mean"]) == ("doubt", pytest.approx(8.0))
    assert check([run(load=FOUR, rows=records(ALPHA, load(8, 1)))], "LITTLE").verdict == "doubt"
    # A batch drains: few in flight on average is no fault there.
    assert check([run(load=OFFLINE, rows=records(ALPHA, load(6, 1)))], "LITTLE").verdict == "ok"


@pytest.mark.parametrize(
    ("same_machine", "cpu_s", "threads", "verdict"),
    [
        (True, 0.05, 8, "ok"),
        (True, 0.2, 8, "doubt"),
        (True, 0.2, 0, "doubt"),
        (True, 0.2, 7, "ok"),
        (True, None, 8, "doubt"),
        (False, 0.9, 8, "ok"),
    ],
)
def test_cpu_contention(run: Run, same_machine: bool, cpu_s: float | None, threads: int, verdict: str) -> None:
    changes = {"endpoint__same_machine": same_machine, "client__cpu_s": cpu_s}
    found = check([run(endpoint__settings=settings(threads=threads), **changes)], "CPU_CONTENTION")
    assert found.verdict == verdict


@pytest.mark.parametrize(("cores", "verdict"), [(4.0, "ok"), (7.9, "doubt")])
def test_an_engine_that_keeps_all_cores_busy_shares_them_whatever_its_threads(
    run: Run, cores: float, verdict: str
) -> None:
    made = run(endpoint__settings=settings(threads=1), client__cpu_s=0.3)
    write_samples(made.folder, [(0.0, "engine_cpu_s", 0.0), (1.0, "engine_cpu_s", cores)])  # of 8
    found = check([made], "CPU_CONTENTION")
    assert found.verdict == verdict and found.numbers["engine_cores"] == pytest.approx(cores)


def test_length_parity_voids_only_the_engine_that_strays(run: Run) -> None:
    short = records(BETA, ONE, tokens=4)
    runs = [run(), run(BETA, rows=short)]
    assert check(runs, "LENGTH_PARITY").verdict == "ok"
    found = check(runs, "LENGTH_PARITY", "beta")
    assert (found.verdict, found.numbers["differ"]) == ("invalid", 4)
    assert found.numbers["mean_output_tokens"] == {"alpha": 5.0, "beta": 4.0}


def test_equal_lengths_are_no_parity_where_they_were_forced_and_are_not_as_asked(run: Run) -> None:
    runs = [run(e, rows=records(e, ONE, tokens=4)) for e in (ALPHA, BETA)]
    assert check(runs, "LENGTH_PARITY").verdict == "invalid"
    assert check(runs, "TOKEN_COUNT").verdict == "ok"


def test_an_engine_without_an_answer_voids_no_other(run: Run) -> None:
    runs = [run(), run(BETA, rows=[failed(row) for row in records(BETA, ONE)])]
    assert check(runs, "LENGTH_PARITY").verdict == "ok"
    assert check(runs, "LENGTH_PARITY", "beta").verdict == "doubt"


def test_config_parity_lists_what_differs_and_not_what_is_declared(run: Run) -> None:
    runs = [run(), run(BETA)]  # "declared" differs between them
    assert check(runs, "CONFIG_PARITY").verdict == "ok"
    runs = [run(), run(BETA, endpoint__settings=settings(context_tokens=2048, extra=1))]
    found = check(runs, "CONFIG_PARITY", "beta")
    assert found.verdict == "doubt"
    assert found.numbers["differ"] == {
        "context_tokens": {"alpha": "1024", "beta": "2048"},
        "extra": {"alpha": "not stated", "beta": "1"},
    }


def test_precision(run: Run) -> None:
    assert check([run(), run(BETA)], "PRECISION").verdict == "ok"
    for name in ("alpha", "beta"):
        assert check([run(), run(BETA, model__kv_dtype="fp8")], "PRECISION", name).verdict == "doubt"
        assert check([run(), run(BETA, model__weight_dtype="fp8")], "PRECISION", name).verdict == "doubt"
    assert check([run(), run(BETA, model__weight_dtype=None)], "PRECISION", "beta").verdict == "doubt"


@pytest.mark.parametrize(
    ("ids", "verdict", "leading", "positions"),
    [([5, 6, 7, 8], "ok", 1.0, 1.0), ([5, 9, 7, 8], "doubt", 0.25, 0.75), ([5, 6], "doubt", 0.5, 0.5)],
)
def test_answers(run: Run, ids: list[int], verdict: str, leading: float, positions: float) -> None:
    found = check([run(), run(BETA, probe__answer_ids=tuple(ids))], "ANSWERS", "beta")
    assert found.verdict == verdict
    assert (found.numbers["leading"], found.numbers["positions"]) == (leading, positions)
    assert f"{leading:.0%}" in found.message and f"{positions:.0%}" in found.message


def test_answers_not_probed(run: Run) -> None:
    assert check([run(), run(BETA, probe=None)], "ANSWERS", "beta").verdict == "doubt"


def test_null_engines_have_no_cross_engine_checks_and_no_pair(run: Run) -> None:
    comparison = compare([run(), run(BETA, candidate__null=True)], campaign(["beta", "alpha"]))
    codes = {c.code for cell in comparison.cells if cell.candidate == "beta" for c in cell.checks}
    assert codes.isdisjoint({"CONFIG_PARITY", "PRECISION", "ANSWERS", "GPUS"})
    assert (comparison.reference, comparison.pairs) == ("alpha", ())
