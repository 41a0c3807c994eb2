"""The report of a folder: what is written, twice the same, and nothing else touched."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.errors import HarnessError
from harness.judge.answers import answers
from harness.judge.comparison import Comparison
from harness.records.campaign import run_folder
from harness.records.manifest import MANIFEST
from harness.records.stored import write_json
from harness.report.charts.charts import write_charts
from harness.report.page import html, write_report
from tests.invented import (
    ALPHA,
    BETA,
    calibration,
    campaign,
    floor,
    manifest,
    open_records,
    records,
    write_comparison,
    write_run,
)
from tests.loads import load
from tests.told import C1, told, values


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A reported comparison and what lay in it before."""
    folder = write_comparison(tmp_path_factory.mktemp("reported") / "invented", skipped={"gamma": "<b>needs</b> a GPU"})
    before = digests(folder)
    write_report(folder)
    return folder, before


def test_everything_is_written_and_nothing_else_changed(reported: tuple[Path, dict[str, str]]) -> None:
    folder, before = reported
    after = digests(folder)
    assert before.items() <= after.items()
    charts = ("answers", "throughput", "ttft", "tpot", "latency-vs-throughput", "ttft-distribution")
    assert set(after) - set(before) == {
        "comparison.json", "table.md", "report.html",
        *(f"charts/{name}.{kind}" for name in charts for kind in ("svg", "png")),
    }  # fmt: skip


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(reported: tuple[Path, dict[str, str]]) -> None:
    folder, _ = reported
    first = digests(folder)
    code = (
        f"from pathlib import Path; from harness.report.page import write_report; write_report(Path({str(folder)!r}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert digests(folder) == first


def test_comparison_json_is_the_comparison(reported: tuple[Path, dict[str, str]]) -> None:
    stored = msgspec.json.decode((reported[0] / "comparison.json").read_bytes(), type=Comparison)
    assert stored.schema == 3
    assert [engine.name for engine in stored.candidates] == ["alpha", "beta"]


def test_the_page_needs_nothing_else(reported: tuple[Path, dict[str, str]]) -> None:
    page = (reported[0] / "report.html").read_text()
    assert page.count("<svg") == 6
    outside = re.findall(r'(?:src|href|xlink:href)="(?!#)([^"]*)"', page) + re.findall(r"url\((?!#)", page)
    assert outside == []
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]*)"', page)) <= set(ids)
    assert "prefers-color-scheme: dark" in page
    assert page.count("--c0: #") == page.count("--c1: #") == 2  # of the candidates, for the light page and the dark
    for color in ("#26282c", "#dcdfe4", ALPHA.color, BETA.color):
        assert color not in page.split("</style>", 1)[1]


def test_the_page_opens_with_the_answers(reported: tuple[Path, dict[str, str]]) -> None:
    page = (reported[0] / "report.html").read_text()
    places = [
        page.index(f'id="{part}"') for part in ("answers", "chart-answers", "results", "charts", "pairs", "checks")
    ]
    assert places == sorted(places)
    assert "<h3>Who is fastest for one user?</h3>\n<p>For one user (c1) Beta is the fastest:" in page
    assert page.count('<details class="card"') == 2 and page.count('<details class="card" open>') == 1


def test_the_page_links_what_weakens_an_answer_and_says_each_verdict_in_words(tmp_path: Path) -> None:
    measured = {"alpha": {C1: values()}, "beta": {C1: values(2.0)}}
    made = told(measured, against={("beta", "c1"): [("RATE", "doubt")]})
    comparison = replace(made, answers=answers(made))
    write_charts(comparison, [], tmp_path)
    page = html(comparison, tmp_path)
    assert 'Weakened by <a class="doubt" href="#checks">RATE</a>.' in page
    assert 'title="faster than Alpha: 0.50 [0.45, 0.55] times">5.00 <span class="mark faster">▲</span>' in page
    assert '<a class="doubt" href="#checks">doubt</a> <span class="interval">RATE</span>' in page


def test_the_page_escapes_what_runs_say(reported: tuple[Path, dict[str, str]]) -> None:
    page = (reported[0] / "report.html").read_text()
    assert "<b>needs</b>" not in page
    assert "&lt;b&gt;needs&lt;/b&gt; a GPU" in page


@pytest.mark.slow
def test_settings_that_the_engine_does_not_show_are_said_to_be_so(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "endpoint__unverified": ("threads", "dtype"),
        "endpoint__unknown": {"gpus": "it does not tell"},
    }
    one = load(4, 1)
    write_run(run_folder(tmp_path, "alpha", "c1", 1), manifest(ALPHA, one, **changes), records(ALPHA, one))
    write_json(tmp_path / "campaign.json", campaign())
    write_report(tmp_path)
    page = (tmp_path / "report.html").read_text()
    for name, text in (("not verified, assumed as asked", "threads, dtype"),
                       ("not known: gpus", "it does not tell"), ("scheduler", "Alpha&#39;s own")):  # fmt: skip
        assert f'<th scope="row">{name}</th><td>{text}</td>' in page


@pytest.mark.slow
def test_one_engine_one_round(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "one", [ALPHA], rounds=1)
    comparison = write_report(folder)
    assert (comparison.reference, comparison.pairs) == ("alpha", ())
    page = (folder / "report.html").read_text()
    assert "DRIFT" in page and "no error bars" in page and 'id="pairs"' not in page


@pytest.mark.slow
def test_an_open_loop_and_a_calibration(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "made", [ALPHA], rounds=1)
    point = load(5, rate=10.0)
    rows = open_records(ALPHA, 10.0, 5, [30.0] * 5)
    write_run(run_folder(folder, "alpha", "r10", 1), manifest(ALPHA, point), rows)
    write_json(folder / "calibration.json", calibration(floor("c1")))
    write_report(folder)
    page = (folder / "report.html").read_text()
    assert page.count("<svg") == 10 and 'id="chart-ttft-rate"' in page
    assert "TTFT due p50" in page and "own floor on this machine" in page
    row = re.search(r"<tr>\s*<td>c1</td><td class=\"n\">–</td><td class=\"n\">0.1</td>", page)
    assert row is not None
    stored = msgspec.json.decode((folder / "comparison.json").read_bytes(), type=Comparison)
    assert stored.calibration is not None
    (folder / "calibration.json").write_text("{")
    (named,) = write_report(folder).unread
    assert re.search(r"calibration\.json: cannot be read: .*own floor is not known", named)


def test_a_folder_that_is_no_comparison(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="not a comparison") as caught:
        write_report(tmp_path)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(HarnessError, match="not a comparison"):
        write_report(tmp_path / "absent")


def test_a_comparison_without_a_finished_run(tmp_path: Path) -> None:
    write_json(tmp_path / "campaign.json", campaign())
    point = load(4, 1)
    begun = run_folder(tmp_path, "alpha", "c1", 1)
    write_run(begun, manifest(ALPHA, point), records(ALPHA, point))
    (begun / MANIFEST).unlink()
    with pytest.raises(HarnessError, match="no finished run"):
        write_report(tmp_path)
    assert not (tmp_path / "comparison.json").exists()


def test_a_damaged_run_is_named(tmp_path: Path) -> None:
    write_json(tmp_path / "campaign.json", campaign())
    point = load(4, 1)
    run = run_folder(tmp_path, "alpha", "c1", 1)
    write_run(run, manifest(ALPHA, point), records(ALPHA, point))
    (run / "requests.parquet").write_bytes(b"half a fi")
    with pytest.raises(HarnessError, match="cannot be read") as caught:
        write_report(tmp_path)
    assert str(run) in str(caught.value) and "\n" not in str(caught.value)
