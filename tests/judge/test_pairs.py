"""Verdicts of pairs: both candidates, every question, with what would tell."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.judge.comparison import Comparison, compare
from harness.judge.more import seconds_of_round
from harness.judge.pairs import Pair
from harness.records.calibration import Calibration
from harness.records.run import RunResult
from tests.invented import ALPHA, ONE, Invented, calibration, campaign, floor, records
from tests.invented_runs import Run

NOISE = (1.0, 1.02, 0.98, 1.01, 0.99)


def beside(run: Run, factors: tuple[float, ...], floors: Calibration | None = None, **changes: object) -> Comparison:
    """Alpha and the same engine with its times multiplied by these factors, one a round."""
    other = replace(ALPHA, name="other", title="Other")
    runs = [_run(run, ALPHA, r, NOISE[r - 1], **changes) for r in range(1, len(factors) + 1)]
    runs += [_run(run, other, r, NOISE[r - 1] * f, **changes) for r, f in enumerate(factors, 1)]
    return compare(runs, campaign(["alpha", "other"], rounds=len(factors)), floors)


def _run(run: Run, engine: Invented, round_index: int, factor: float, **changes: object) -> RunResult:
    return run(engine, round_index=round_index, rows=records(engine, ONE, factor), **changes)


def e2e(comparison: Comparison) -> Pair:
    pair = comparison.pair("other", "alpha", "c1", "e2e_p50")
    assert pair is not None
    return pair


def test_faster_and_slower(run: Run) -> None:
    found = e2e(beside(run, (1.2, 1.21, 1.19, 1.2, 1.2)))
    assert found.verdict == "slower" and found.ratio == pytest.approx(1.2, rel=1e-3)
    assert found.p is not None and found.p < 0.05
    turned = found.turned()
    assert turned.verdict == "faster" and turned.ratio == pytest.approx(1 / 1.2, rel=1e-3)
    assert turned.low is not None and found.high is not None and turned.low == pytest.approx(1 / found.high)


def test_a_difference_within_the_margin_is_never_called_one(run: Run) -> None:
    found = e2e(beside(run, (1.02, 1.0201, 1.0199, 1.02, 1.02)))
    assert found.low is not None and found.high is not None and found.low > 1  # surely not the same
    assert found.verdict == "equal" and found.p_equal is not None and found.p_equal < 0.05


def test_what_cannot_be_told_says_what_would_tell(run: Run) -> None:
    found = e2e(beside(run, (1.3, 1.0, 1.2, 0.95, 1.15)))
    assert found.verdict == "not known"
    assert found.more_rounds is not None and 1 <= found.more_rounds < 60
    # A round here: a second of load after starts of 5 s.
    assert found.more_s == pytest.approx(6.0 * found.more_rounds)
    more = e2e(beside(run, (1.3, 1.0, 1.2, 0.95, 1.15)[:3]))
    assert more.more_rounds is not None and more.more_rounds > found.more_rounds - 2


def test_seconds_of_a_round(run: Run) -> None:
    def at(round_index: int, second: int, cold: dict[str, float], name: str = "alpha") -> RunResult:
        began = f"2026-09-01T00:0{round_index}:{second:02d}+00:00"
        engine = replace(ALPHA, name=name)
        return run(engine, round_index=round_index, started_at=began, duration_s=4.0, endpoint__cold_start_s=cold)

    cold = {"pull": 600.0, "ready": 8.0}
    runs = [at(1, 10, cold), at(1, 30, {"ready": 9.0}, "other"), at(2, 10, cold), at(2, 40, {"ready": 9.0}, "other")]
    assert seconds_of_round(runs[:2]) == 32.0  # from 8 s before the first run to the end of the last; not the pull
    assert seconds_of_round(runs) == 37.0  # the median of 32 and 42


def test_what_more_rounds_would_not_tell(run: Run) -> None:
    found = e2e(beside(run, (1.0, 1.06, 1.03, 1.031, 1.029)))  # at the margin, where neither can be told
    assert (found.verdict, found.more_rounds, found.more_s) == ("not known", None, None)
    assert found.reason is not None and "more rounds would not tell" in found.reason


def test_a_percentile_without_enough_requests_says_how_many_rounds_it_takes(run: Run) -> None:
    comparison = beside(run, (1.2, 1.2, 1.2))
    pair = comparison.pair("other", "alpha", "c1", "ttft_p99")
    assert pair is not None and (pair.ratio, pair.verdict) == (None, "not known")
    assert pair.reason == "other: p99 needs 368 requests, and there are 12"
    assert pair.more_rounds == 89  # 4 requests a round: 92 rounds in all
    cell = comparison.cell("other", "c1")
    assert cell is not None and cell.metrics["ttft_p99"].reason == "p99 needs 368 requests, and there are 12"
    assert cell.metrics["ttft_p99"].mean is None and cell.metrics["ttft_p99"].per_round[0] is not None


def test_the_margin_is_at_least_the_clients_own_error(run: Run) -> None:
    wide = calibration(floor("c1", ttft_error_p50_s=0.006, tpot_error_p50_s=0.0018))  # of 100 and 20 ms
    comparison = beside(run, (1.08, 1.081, 1.079, 1.08, 1.08), wide)
    assert e2e(comparison).margin == pytest.approx(0.09, rel=0.01)  # of the faster one: its share is larger
    assert e2e(comparison).verdict == "equal"
    ttft = comparison.pair("other", "alpha", "c1", "ttft_p50")
    assert ttft is not None and ttft.margin == pytest.approx(0.06, rel=0.01) and ttft.verdict == "slower"
    assert e2e(beside(run, (1.1,) * 5, calibration(floor("c1")))).margin == 0.03


def test_servers_that_already_ran_have_one_start(run: Run) -> None:
    assert e2e(beside(run, (1.2,) * 3)).starts == 3
    attached = beside(run, (1.2,) * 3, endpoint__launch="attach")
    assert e2e(attached).starts == 1


def test_more_questions_make_each_verdict_harder(run: Run) -> None:
    factors = (1.12, 1.02, 1.10, 1.01, 1.09)
    alone = e2e(beside(run, factors))
    others = [replace(ALPHA, name=f"same{i}", title=f"Same {i}") for i in range(3)]
    runs = [_run(run, engine, r, NOISE[r - 1]) for engine in (ALPHA, *others) for r in range(1, 6)]
    runs += [_run(run, replace(ALPHA, name="other"), r, NOISE[r - 1] * f) for r, f in enumerate(factors, 1)]
    crowd = e2e(compare(runs, campaign(["alpha", "other"])))
    assert alone.p is not None and crowd.p is not None and crowd.p != alone.p
