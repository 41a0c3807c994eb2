"""Tables as text: what a reader finds, and that nothing is wider than the terminal."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from harness.judge.answers import answers
from harness.judge.comparison import compare, stored_comparison
from harness.judge.pairs import PairVerdict
from harness.judge.words import interval_words
from harness.records.calibration import read_calibration
from harness.records.comparison_folder import read_comparison
from harness.records.manifest import ImageFacts
from harness.records.run import RunResult
from harness.report import columns
from harness.report.table import markdown
from harness.report.terminal import rich_table
from harness.report.text import milliseconds, number
from harness.workload.slo import Slo
from tests.invented import (
    BETA,
    FOUR,
    ONE,
    calibration,
    campaign,
    cancelled,
    changed,
    failed,
    floor,
    open_records,
    records,
)
from tests.invented_runs import Run
from tests.loads import load
from tests.told import C1, estimate_of, told, values


def printed(runs: list[RunResult], width: int = 100) -> str:
    console = Console(width=width, record=True, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(rich_table(compare(runs, campaign(["alpha", "beta", "gamma"], {"gamma": "no GPU"}))))
    return capture.get()


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0"), (1234.5, "1,234"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"),
     (0.01234, "0.0123"), (99.96, "100"), (9.996, "10.0")],
)  # fmt: skip
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


def test_milliseconds_of_missing_is_not_zero() -> None:
    assert (milliseconds(None), milliseconds(0.0123)) == ("–", "12.3")


def test_a_bound_never_reads_as_one() -> None:
    assert interval_words(1.3, 1.002, 1.7) == "1.300 [1.002, 1.700]"


def test_markdown_opens_with_the_answers() -> None:
    made = told({"alpha": {C1: values()}, "beta": {C1: values(2.0)}}, against={("beta", "c1"): [("RATE", "doubt")]})
    text = markdown(replace(made, answers=answers(made)))
    assert text.index("## Answers") < text.index("## c1")
    assert "- **Who is fastest for one user?** For one user (c1) Beta is the fastest: TPOT 5.00 ms," in text
    assert "of Alpha's. *Weakened by RATE.*\n" in text


def test_every_value_has_its_own_verdict() -> None:
    verdicts: dict[tuple[str, str, str, str], PairVerdict] = {("beta", "alpha", "c1", "tpot_p50"): "not known"}
    measured = {"alpha": {C1: values(e2e_p99=0.7)}, "beta": {C1: values(2.0, ttft_p50=0.24, e2e_p50=0.5, e2e_p99=0.6)}}
    text = markdown(told(measured, verdicts))
    assert "| Alpha | 100 [90.9, 110] | 100 | – | 10.0 | 500 | 700 | ok |" in text
    assert "| Beta | 200 [182, 220] ▲ | 240 ▼ | – | 5.00 ? | 500 = | 600 | ok |" in text
    assert "Against Alpha: ▲ faster, ▼ slower, = equal within 3 %, ? not known apart, × invalid." in text


def test_every_two_candidates_have_a_table() -> None:
    three = {"alpha": {C1: values()}, "beta": {C1: values(2.0)}, "gamma": {C1: values(4.0)}}
    text = markdown(told(three))
    for pair in ("Beta / Alpha", "Gamma / Alpha", "Gamma / Beta"):
        assert f"### {pair}" in text
    part = text.split("### Gamma / Beta")[1]
    assert "| load | throughput | TTFT | TPOT | E2E latency |" in part
    assert "| c1 | 2.00 [1.82, 2.20] ▲ | 0.50 [0.45, 0.55] ▲ |" in part


def test_an_invalid_pair_says_why() -> None:
    measured = {"alpha": {C1: values()}, "beta": {C1: values(2.0)}}
    made = told(measured, against={("beta", "c1"): [("RATE", "invalid")]})
    pairs = tuple(replace(pair, reason="beta: RATE") for pair in made.pairs)
    text = markdown(replace(made, pairs=pairs))
    assert "| c1 | invalid: beta: RATE |" in text and "| Beta | 200 [182, 220] × |" in text
    assert "| invalid: RATE |" in text


def test_goodput_is_shown_with_an_slo() -> None:
    made = told({"alpha": {C1: values(goodput=2.5, goodput_fraction=0.987)}}, slo=Slo(ttft_s=0.2))
    assert "| goodput/s | within SLO |" in markdown(made) and "| 2.50 | 98.7% |" in markdown(made)
    assert "within SLO" not in markdown(replace(made, slo=None))


def test_a_percentile_of_too_few_requests_is_withheld_with_the_reason(invented_runs: list[RunResult]) -> None:
    text = markdown(compare(invented_runs, campaign()))
    assert "- TTFT p99 and E2E latency p99: p99 needs 368 requests, and there are 12 (c1);" in text
    assert "TTFT p99 and E2E latency p99: p99 needs 368" in printed(invented_runs)


def test_what_serving_takes_is_a_table_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "RESOURCES", ("concurrency_mean", "tokens_per_chunk"))
    made = told({"alpha": {C1: values(concurrency_mean=0.9)}, "beta": {C1: values()}})
    part = markdown(made).split("## What serving takes")[1]
    assert "| load | candidate | in flight |" in part and "tok/chunk" not in part  # known of nobody
    assert "| c1 | Alpha | 0.9 |" in part and "| c1 | Beta | – |" in part
    cells = tuple(replace(one, metrics={**one.metrics, "roofline_share": estimate_of(0.62)}) for one in made.cells)
    monkeypatch.undo()  # a metric of cells, which no run has
    assert "| load | candidate | of roofline |" in (text := markdown(replace(made, cells=cells)))
    assert "| c1 | Alpha | 62.0% |" in text
    monkeypatch.setattr(columns, "RESOURCES", ("itl_p50",))
    assert "## What serving takes" not in markdown(made)


def test_markdown_says_what_was_measured_and_how_sure(invented_runs: list[RunResult]) -> None:
    text = markdown(compare(invented_runs, campaign(["alpha", "beta", "gamma"], {"gamma": "no | GPU"})))
    assert re.search(r"\| Alpha \| 27\.8 \[2\d\.\d, 2\d\.\d\] \| 100 \| – \| 20\.0 \| 180 \| – \| ok \|", text)
    assert re.search(r"\| Beta \| 55\.6 \[5\d\.\d, 5\d\.\d\] ▲ \| 50\.0 ▲ \| – \| 10\.0 ▲ \| 90\.0 ▲ \|", text)
    assert "- gamma: no \\| GPU" in text
    assert "'linear'" in text and "first token's arrival - send" in text


def test_the_head_says_how_each_engine_was_started(run: Run) -> None:
    image = ImageFacts(name="beta:1", digest="sha256:" + "0" * 64)
    text = markdown(compare([run(), run(BETA, endpoint__launch="compose", endpoint__image=image)], campaign()))
    assert "- Candidates: Alpha 1.2.3 (process) · Beta 1.2.3 (compose)\n" in text


def test_terminal_table_fits_100_columns(invented_runs: list[RunResult]) -> None:
    wide = [
        replace(r, manifest=changed(r.manifest, candidate__title=f"{r.manifest.candidate.title} Engine-LLM"))
        for r in invented_runs
    ]
    text = printed(wide)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100
    assert "gamma: no GPU" in text and "…" not in text
    assert text.index("Who is fastest for one user?") < text.index("c1: closed loop")


@pytest.mark.parametrize("width", [70, 80, 100])
def test_a_narrow_terminal_has_fewer_columns(width: int) -> None:
    measured = {name: {C1: values(speed, ttft_p99=0.3, e2e_p99=1.0)} for name, speed in (("alpha", 1.0), ("beta", 2.0))}
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(rich_table(told(measured), width))
    text = capture.get()
    lines = text.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width
    assert any(line.split()[:2] == ["Alpha", "100"] and line.split()[-1] == "ok" for line in lines)
    assert ("In table.md and report.html: " in text) == (width == 70)


def test_doubts_are_told_once_and_below(run: Run) -> None:
    rows = [failed(row) if row.index == 0 else row for row in records(BETA, ONE)]
    runs = [run(), *(run(BETA, p, rows=rows) for p in (ONE, FOUR)), run(load=FOUR)]
    text = printed(runs, width=200)
    assert text.split("Doubts")[1].count("ERROR_RATE") == 1
    assert "invalid: ERROR_RATE, Beta: 1 of 4 requests failed (25.0%)" in text


def test_partial_rounds_are_told(run: Run) -> None:
    text = markdown(compare([run(), run(round_index=2)], campaign(["alpha"])))
    assert "- Alpha, c1: 2 of 3 rounds" in text


OPEN_LOOP = load(5, rate=10.0)


def test_an_open_loop_shows_the_ttft_from_the_schedule(run: Run) -> None:
    rows = open_records(BETA, 10.0, 5, [30.0] * 5)
    comparison = compare([run(BETA, OPEN_LOOP, rows=rows), run(BETA)], campaign(["beta"]))
    text = markdown(comparison)
    assert "| candidate | output tok/s | TTFT p50 | TTFT p99 | TTFT due p50 | TTFT due p99 | TPOT p50 |" in text
    assert "| 50.0 | – | 80.0 | – | 10.0 | 90.0 |" in text
    assert "| candidate | output tok/s | TTFT p50 | TTFT p99 | TPOT p50 |" in text  # the closed loop beside it


def test_the_wider_table_fits_100_columns_too(run: Run) -> None:
    long = replace(BETA, title="TensorRT-Invented-LLM")
    runs = [run(long, OPEN_LOOP, r, rows=open_records(long, 10.0, 5, [3.0] * 5, 1 + r / 10)) for r in (1, 2)]
    text = printed(runs)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100 and "…" not in text


def test_the_floor_stands_in_the_table(run: Run) -> None:
    text = markdown(compare([run()], campaign(), calibration(floor("c1", interval_s=0.001))))
    assert "| c1 | 1.00 | 0.1 | 0.2 | 0.04 | 10,000 | 12.0 |" in text
    assert "own floor" not in markdown(compare([run()], campaign()))


def test_requests_given_up_are_told(run: Run) -> None:
    rows = [cancelled(row) if row.index == 0 else row for row in records(BETA, ONE)]
    assert "- 1 requests were cancelled" in markdown(compare([run(BETA, rows=rows)], campaign(["beta"])))


def test_the_committed_sample_has_the_table_of_its_runs() -> None:
    sample = Path(__file__).parents[2] / "notebooks" / "sample"
    campaign_, runs = read_comparison(sample)
    judged = compare(runs, campaign_, read_calibration(sample))
    assert (sample / "table.md").read_text(encoding="utf-8") == markdown(judged)
    assert msgspec.json.encode(stored_comparison(sample)) == msgspec.json.encode(judged)
