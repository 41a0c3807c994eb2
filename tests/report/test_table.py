"""Tables as text: what a reader finds, and that nothing is wider than the terminal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from harness.judge.comparison import compare
from harness.records.comparison_folder import read_comparison
from harness.records.manifest import ImageFacts
from harness.records.run import RunResult
from harness.report.rows import ratio_text
from harness.report.table import markdown
from harness.report.terminal import rich_table
from harness.report.text import milliseconds, number
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
    made = Ratio("a", "b", "c1", "ttft_p50", 1.3, 1.002, 1.7, 3, "worse", None)
    assert ratio_text(made) == "1.300 [1.002, 1.700]"


def test_markdown_says_what_was_measured_and_how_sure(invented_runs: list[RunResult]) -> None:
    text = markdown(compare(invented_runs, campaign(["alpha", "beta", "gamma"], {"gamma": "no | GPU"})))
    assert "| Alpha | 27.8 ±0.69 | 100 | 100 | 20.0 | 180 | 180 | – | reference |" in text
    assert "| Beta | 55.6 ±1.38 | 50.0 | 50.0 | 10.0 | 90.0 | 90.0 | 2.00 [2.00, 2.00] | better |" in text
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
    assert "2.00 [2.00, 2.00]" in text and "gamma: no GPU" in text and "…" not in text


def test_doubts_are_told_once_and_below(run: Run) -> None:
    rows = [failed(row) if row.index == 0 else row for row in records(BETA, ONE)]
    runs = [run(), *(run(BETA, p, rows=rows) for p in (ONE, FOUR)), run(load=FOUR)]
    text = printed(runs, width=200)
    assert text.count("ERROR_RATE") == 1
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
    assert "| 50.0 | 50.0 | 80.0 | 80.0 | 10.0 | 90.0 |" in text
    assert "| candidate | output tok/s | TTFT p50 | TTFT p99 | TPOT p50 |" in text  # the closed loop beside it


def test_the_wider_table_fits_100_columns_too(run: Run) -> None:
    long = replace(BETA, title="TensorRT-Invented-LLM")
    runs = [run(long, OPEN_LOOP, r, rows=open_records(long, 10.0, 5, [3.0] * 5, 1 + r / 10)) for r in (1, 2)]
    text = printed(runs)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100 and "…" not in text


def test_the_floor_stands_in_the_table(run: Run) -> None:
    text = markdown(compare([run()], campaign(), calibration(floor("c1"))))
    assert "| c1 | 0.1 | 0.2 | 0.04 | 10,000 | 12.0 |" in text
    assert "own floor" not in markdown(compare([run()], campaign()))


def test_requests_given_up_are_told(run: Run) -> None:
    rows = [cancelled(row) if row.index == 0 else row for row in records(BETA, ONE)]
    assert "- 1 requests were cancelled" in markdown(compare([run(BETA, rows=rows)], campaign(["beta"])))


def test_the_committed_sample_has_the_table_of_its_runs() -> None:
    sample = Path(__file__).parents[2] / "notebooks" / "sample"
    campaign_, runs = read_comparison(sample)
    assert (sample / "table.md").read_text(encoding="utf-8") == markdown(compare(runs, campaign_))
