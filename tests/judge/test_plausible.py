"""PLAUSIBLE: what memory and arithmetic allow, by hand; planted faults and their clean twins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.judge.checks.evidence import Check
from harness.judge.comparison import compare
from harness.judge.roofline import Costs, Limits, least_tpot_s, least_ttft_s, most_tokens_per_s, peak_for, step_s
from harness.records.calibration import Calibration, Peak
from harness.records.run import RunResult
from tests.invented import ALPHA, FOUR, ONE, calibration, campaign, records
from tests.invented_runs import Run
from tests.judge.checking import check

GB = 1e9
A100 = Limits(2039 * GB, 312e12)  # 80 GB SXM, from its data sheet
MISTRAL = 7.24e9  # parameters


@pytest.mark.parametrize(
    ("bytes_each", "bound", "published", "possible"),
    # Published in April 2024 for one request of Mistral-7B on an A100-80: faster than its memory allows, but for int4.
    [(4.0, 70, 117.0, False), (2.0, 141, 206.6, False), (1.0, 282, 390.5, False), (0.5, 563, 427.0, True)],
)
def test_a_published_table_that_memory_does_not_allow(
    bytes_each: float, bound: float, published: float, possible: bool
) -> None:
    most = most_tokens_per_s(Costs(MISTRAL * bytes_each), A100, in_flight=1, context=0)
    assert most == pytest.approx(bound, abs=0.5)
    assert (published <= 1.1 * most) == possible


def test_a_step_reads_the_weights_once_for_all_and_the_cache_of_each() -> None:
    costs, limits = Costs(step_bytes=10 * GB, kv_bytes=1e6, flops=2e10), Limits(100 * GB, 1e13)
    assert step_s(costs, limits, 1, 0) == pytest.approx(0.1)
    assert step_s(costs, limits, 10, 1000) == pytest.approx(0.2)  # 10 GB of weights and 10 GB of cache
    assert step_s(costs, limits, 1000, 0) == pytest.approx(2.0)  # from there on arithmetic is the limit
    assert step_s(costs, replace(limits, flops_per_s=None), 1000, 0) == pytest.approx(0.1)
    assert most_tokens_per_s(costs, limits, 10, 1000) == pytest.approx(50)
    assert least_tpot_s(costs, limits, 1000) == pytest.approx(0.11)
    assert least_ttft_s(costs, limits, 500) == pytest.approx(1.0)
    assert least_ttft_s(costs, limits, 1) == pytest.approx(0.1)  # a prompt of one token needs the weights, too
    assert least_ttft_s(costs, replace(limits, flops_per_s=None), 500) is None


def peak(size: int | None = None, rate: float = 20 * GB, **changes: Any) -> Peak:
    return replace(Peak("cpu", rate, 10e12, "measured", 0.25, size), **changes)


def test_the_peak_is_that_of_a_working_set_no_larger_than_the_weights() -> None:
    peaks = [peak(1000, 1.0), peak(10, 9.0), peak(100, 5.0), peak(0, 7.0, device="cuda")]
    found = {size: peak_for(peaks, "cpu", size) for size in (5, 10, 99, 101, 99999)}
    assert {size: one and one.bytes_per_s for size, one in found.items()} == {5: 9, 10: 9, 99: 5, 101: 5, 99999: 1}
    assert peak_for(peaks, None, 5) is None


# ALPHA: TTFT 100 ms, TPOT 20 ms, 5 tokens, 16 prompt tokens. With 0.1 GB of weights 20 GB/s allow 5 ms a token.
MODEL = {"model__decode_bytes": 100_000_000, "model__kv_values_per_token": 500, "model__flops_per_token": 200_000_000}


def judged(run: Run, *peaks: Peak, faster: float = 1.0, **changes: Any) -> Check:
    made = replace(ALPHA, ttft_ms=ALPHA.ttft_ms / faster, tpot_ms=ALPHA.tpot_ms / faster)
    runs = [run(rows=records(made, ONE), **{**MODEL, **changes})]
    return check(runs, "PLAUSIBLE", calibrated=machine(*peaks))


def machine(*peaks: Peak) -> Calibration:
    return replace(calibration(), peaks=peaks)


@pytest.mark.parametrize(
    ("faster", "verdict"), [(1.0, "ok"), (4.3, "ok"), (4.7, "doubt"), (5.1, "invalid"), (1000.0, "invalid")]
)
def test_an_engine_faster_than_memory_is_invalid(run: Run, faster: float, verdict: str) -> None:
    found = judged(run, peak(), faster=faster)
    assert found.verdict == verdict
    assert found.numbers["roofline_share_of_tpot"] == pytest.approx(faster * 5.0009 / 20, rel=1e-3)
    assert ("than this machine allows" in found.message) == (verdict != "ok")


def test_throughput_counts_with_the_requests_in_flight(run: Run) -> None:
    """4 requests in flight share each reading of the weights: 4 times the tokens/s are allowed."""
    alone = check([run(**MODEL)], "PLAUSIBLE", calibrated=machine(peak()))
    four = check([run(load=FOUR, **MODEL)], "PLAUSIBLE", calibrated=machine(peak()))
    assert four.numbers["most_tokens_per_s"] == pytest.approx(4 * alone.numbers["most_tokens_per_s"], rel=0.01)
    assert four.verdict == alone.verdict == "ok"


def test_a_first_token_before_the_prompt_could_be_multiplied(run: Run) -> None:
    slow = peak(flops_per_s=10e9)  # 16 tokens of 0.2 GFLOP take 320 ms
    found = judged(run, slow)
    assert (found.verdict, found.numbers["least_ttft_s"]) == ("invalid", pytest.approx(0.32))
    assert "TTFT is 3.2 times" in found.message
    assert judged(run, peak(flops_per_s=None)).numbers["least_ttft_s"] is None


def test_prompt_tokens_from_a_cache_need_no_arithmetic(run: Run) -> None:
    settings = {"prefix_cache": True, "context_tokens": 1024, "threads": 8}
    cached = [replace(row, cached_tokens=15) for row in records(ALPHA, ONE)]
    unknown = [replace(row, cached_tokens=None) for row in records(ALPHA, ONE)]
    for rows, verdict in ((records(ALPHA, ONE), "invalid"), (cached, "ok"), (unknown, "ok")):
        made = run(rows=rows, endpoint__settings=settings, **MODEL)
        assert check([made], "PLAUSIBLE", calibrated=machine(peak(flops_per_s=10e9))).verdict == verdict


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"endpoint__same_machine": None}, "was not measured"),
        ({"endpoint__same_machine": False}, "was not measured"),
        ({"endpoint__device": None}, "was not measured"),
        ({"endpoint__device": "cuda"}, "reads memory was not measured"),
        ({"model__decode_bytes": None}, "bytes of weights"),
    ],
)
def test_what_is_not_known_is_no_doubt(run: Run, changes: dict[str, Any], why: str) -> None:
    found = judged(run, peak(), faster=1000.0, **changes)
    assert (found.verdict, found.numbers["roofline_share"]) == ("ok", None)
    assert why in found.message
    assert judged(run, faster=1000.0).verdict == "ok"  # nothing was measured


def test_an_unknown_cache_counts_nothing(run: Run) -> None:
    known, unknown = (judged(run, peak(), model__kv_dtype=dtype).numbers for dtype in ("bfloat16", "secret"))
    assert known["least_tpot_s"] > unknown["least_tpot_s"] == pytest.approx(0.005)


def test_several_gpus_read_together(run: Run) -> None:
    gpu = peak(0, device="cuda")
    found = [judged(run, gpu, endpoint__device="cuda", endpoint__gpus=gpus).numbers["least_tpot_s"] for gpus in (1, 2)]
    assert found[0] == pytest.approx(2 * found[1])


def test_speculation_gives_several_tokens_a_step(run: Run) -> None:
    line = ("serve", "--speculative-config", "{}")
    assert judged(run, peak(), faster=10.0, endpoint__launch_line=line).verdict == "note"
    assert judged(run, peak(), faster=10.0, candidate__given={"args": ["--draft-max", "4"]}).verdict == "note"
    assert judged(run, peak(), endpoint__launch_line=line).verdict == "ok"


def test_the_null_engine_has_no_model(run: Run) -> None:
    comparison = compare([run(candidate__null=True, **MODEL)], campaign(), machine(peak()))
    (cell,) = comparison.cells
    assert "PLAUSIBLE" not in {check.code for check in cell.checks}
    assert "roofline_share" not in cell.metrics


def test_the_share_is_a_metric_of_the_cell_with_a_value_for_each_round(run: Run) -> None:
    runs: list[RunResult] = [run(round_index=r, **MODEL) for r in (1, 2, 3)]
    (cell,) = compare(runs, campaign(), machine(peak())).cells
    share, found = cell.metrics["roofline_share"], next(c for c in cell.checks if c.code == "PLAUSIBLE")
    assert share.mean == pytest.approx(found.numbers["roofline_share"], rel=1e-3)
    assert len(share.per_round) == 3 and share.low is not None
    (cell,) = compare(runs, campaign()).cells
    assert "roofline_share" not in cell.metrics
