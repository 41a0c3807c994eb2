"""vllm-bench.json of a run: what stands under which name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.records.formats import vllm_bench
from harness.records.formats.vllm_bench import write_vllm_bench
from harness.records.metrics import measure
from harness.records.run import RunResult
from harness.workload.loads import Load
from tests.invented import ALPHA, FOUR, OFFLINE, ONE, cancelled, failed, open_records, records
from tests.invented_runs import Run
from tests.loads import load


def written(run: RunResult, folder: Path) -> dict[str, Any]:
    write_vllm_bench(folder, run)
    assert not list(folder.glob("*.part"))
    found: dict[str, Any] = json.loads((folder / "vllm-bench.json").read_text())
    return found


def test_the_summary_is_what_the_metrics_are(run: Run, tmp_path: Path) -> None:
    made = run(load=FOUR)
    found, metrics = written(made, tmp_path), measure(made)
    for key, metric in (("ttft", "ttft"), ("tpot", "tpot"), ("itl", "itl"), ("e2el", "e2e")):
        assert found[f"median_{key}_ms"] == pytest.approx((metrics[f"{metric}_p50"] or 0) * 1e3)
        assert found[f"p99_{key}_ms"] == pytest.approx((metrics[f"{metric}_p99"] or 0) * 1e3)
    for key, metric in (("output_throughput",) * 2, ("total_token_throughput", "total_throughput")):
        assert found[key] == pytest.approx(metrics[metric])
    assert (found["mean_ttft_ms"], found["std_itl_ms"]) == pytest.approx((100.0, 0.0), abs=1e-9)
    assert (found["completed"], found["failed"], found["num_prompts"]) == (8, 0, 8)
    assert (found["total_input_tokens"], found["total_output_tokens"]) == (128, 40)
    assert found["schedule_digest"] == made.manifest.schedule.digest


@pytest.mark.parametrize("at_once", [1, 3, 4096])
def test_lists_are_by_request_in_the_order_of_the_schedule(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(vllm_bench, "REQUESTS_AT_ONCE", at_once)
    rows = records(ALPHA, ONE)
    rows[1] = failed(rows[1])
    rows[2] = cancelled(rows[2])
    rows = [rows[i] for i in (3, 0, 2, 1)]  # chunks.parquet has them in the order of their end
    found = written(run(rows=rows), tmp_path)
    assert [len(gaps) for gaps in found["itls"]] == [4, 0, 1, 4]
    assert found["itls"][3] == pytest.approx([0.02] * 4)
    assert found["ttfts"] == [pytest.approx(0.1), None, pytest.approx(0.1), pytest.approx(0.1)]
    assert found["start_times"] == pytest.approx([0.0, 0.18, 0.36, 0.54])
    assert found["errors"] == ["", "HTTP 500: out of slots", "", ""]
    assert (found["output_lens"], found["input_lens"]) == ([5, 0, 2, 5], [16] * 4)
    assert (found["completed"], found["failed"]) == (2, 1)


@pytest.mark.parametrize(
    ("asked", "keys"),
    [
        (FOUR, {"request_rate": "inf", "burstiness": 1.0, "max_concurrency": 4}),
        (OFFLINE, {"request_rate": "inf", "burstiness": 1.0, "max_concurrency": None}),
        (load(6, batch=2), {"request_rate": "inf", "max_concurrency": 2}),
        (load(5, rate=2.5), {"request_rate": 2.5, "burstiness": 1.0, "max_concurrency": None}),
        (load(5, rate=2.5, concurrency=3), {"request_rate": 2.5, "max_concurrency": 3}),
        (load(5, rate=2.5, arrivals="gamma", burstiness=0.5), {"request_rate": 2.5, "burstiness": 0.5}),
        (load(5, rate=2.0, ramp_to=4.0),
         {"request_rate": 2.0, "ramp_up_strategy": "linear", "ramp_up_start_rps": 2.0, "ramp_up_end_rps": 4.0}),
    ],
)  # fmt: skip
def test_the_load(run: Run, tmp_path: Path, asked: Load, keys: dict[str, Any]) -> None:
    rows = open_records(ALPHA, 2.0, 5, [20.0] * 5) if asked.open_loop else None
    found = written(run(load=asked, rows=rows if rows else records(ALPHA, ONE)), tmp_path)
    assert {key: found.get(key) for key in keys} == keys
    assert found["queue_times"] == ([pytest.approx(0.02)] * 5 if rows else [None] * 4)


@pytest.mark.parametrize("rows", [[], [failed(row) for row in records(ALPHA, ONE)]])
def test_nothing_came_back(run: Run, tmp_path: Path, rows: list[Any]) -> None:
    found = written(run(rows=rows), tmp_path)
    assert (found["completed"], found["mean_ttft_ms"], found["duration"]) == (0, None, None)
    assert found["itls"] == [[] for _ in rows]
