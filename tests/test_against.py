"""`harness compare --against`, `harness report --against`, prices and power through the front door, on the null
engine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.compare_parts import harness

pytestmark = pytest.mark.live

# Slow enough that what a busy machine adds to 20 ms stays small beside the margin.
FILE = """
name = "versions"
rounds = 3
power_command = "sh -c 'while echo 50; do sleep 0.2; done'"
[workload]
input_tokens = 16
output_tokens = 12
[profile]
context_tokens = 64
[[workload.load]]
concurrency = 1
requests = {requests}
[price]
usd_per_hour = 3.6
[[candidate]]
name = "served"
engine = "fake"
args = ["--ttft", "0.06", "--interval", "{interval}"]
"""


def file(folder: Path, interval: str, requests: int = 4) -> Path:
    path = folder / f"{interval}-{requests}.toml"
    path.write_text(FILE.format(interval=interval, requests=requests))
    return path


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("then")
    done = harness("compare", file(folder, "0.020"), "--results", folder / "out")
    assert done.returncode == 1 and "Nothing to compare with" in done.stdout
    return folder / "out"


def outcome(done: subprocess.CompletedProcess[str], folder: Path) -> dict[str, Any]:
    assert done.returncode in (0, 1), done.stderr + done.stdout
    found: dict[str, Any] = json.loads((folder / "against.json").read_text())
    cells = json.loads((folder / "comparison.json").read_text())["cells"]
    bad = found["verdict"] == "regression" or any(cell["verdict"] == "invalid" for cell in cells)
    assert done.returncode == int(bad), done.stdout
    return found


def test_a_slowed_candidate_is_a_regression_and_status_1(before: Path, tmp_path: Path) -> None:
    done = harness("compare", file(tmp_path, "0.030"), "--results", tmp_path / "out", "--against", before)
    found = outcome(done, tmp_path / "out")
    assert (found["verdict"], done.returncode) == ("regression", 1), done.stdout
    slower = {change["question"] for change in found["changes"] if change["verdict"] == "regression"}
    assert {"tpot_p50", "e2e_p50"} <= slower
    assert "REGRESSION: served at c1" in done.stdout.replace("\n", " ")
    summary = (tmp_path / "out" / "against.md").read_text()
    assert summary.startswith("# versions: REGRESSION\n") and "[[candidate]] twice" in summary
    assert "0.030 now" in summary  # what else than speed differs


def test_an_unchanged_candidate_is_none_and_status_0(before: Path, tmp_path: Path) -> None:
    done = harness("compare", file(tmp_path, "0.020"), "--results", tmp_path / "out", "--against", before)
    found = outcome(done, tmp_path / "out")
    verdicts = {change["question"]: change["verdict"] for change in found["changes"]}
    assert verdicts["tpot_p50"] == "pass", done.stdout  # paced by the null server's own clock
    again = harness("report", tmp_path / "out", "--against", before)
    assert outcome(again, tmp_path / "out") == found
    assert "Nothing to compare with" not in again.stdout.splitlines()[-1]


def test_another_file_is_refused_before_anything_is_measured(before: Path, tmp_path: Path) -> None:
    done = harness("compare", file(tmp_path, "0.020", 5), "--results", tmp_path / "out", "--against", before)
    assert done.returncode == 2 and not (tmp_path / "out" / "runs").exists()
    assert (
        "this comparison and" in done.stderr and "mean different loads by c1: requests 5 and requests 4" in done.stderr
    )
    assert len(done.stderr.strip().splitlines()) == 1
    missing = harness("compare", file(tmp_path, "0.020"), "--results", tmp_path / "no", "--against", tmp_path)
    assert missing.returncode == 2 and "not a comparison" in missing.stderr
    assert not (tmp_path / "no").exists()


def test_another_machine_is_refused_and_with_allow_shown_without_a_verdict(before: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    subprocess.run(["cp", "-r", before, moved], check=True)
    for path in moved.glob("runs/*/*/*/manifest.json"):
        manifest = json.loads(path.read_text())
        manifest["machine"]["id"] = "another"
        path.write_text(json.dumps(manifest))
    done = harness("report", moved, "--against", before)
    assert done.returncode == 2 and "different machines" in done.stderr
    shown = harness("report", moved, "--against", before, "--allow", "machine")
    found = outcome(shown, moved)
    assert found["verdict"] == "not known" and not found["judged"]
    assert "NOT JUDGED" in shown.stdout and "PASS" not in shown.stdout


def costs(folder: Path) -> list[float]:
    cells = json.loads((folder / "comparison.json").read_text())["cells"]
    return [cell["metrics"]["cost_per_million_output_tokens"]["mean"] for cell in cells]


def test_power_and_prices_are_in_the_result_and_a_price_file_replaces_them(before: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", before, copy], check=True)
    cell = json.loads((copy / "comparison.json").read_text())["cells"][0]["metrics"]
    assert cell["power_w"]["mean"] == pytest.approx(50)
    assert cell["joules_per_output_token"]["mean"] > 0 and cell["sampling_cpu_cores"]["mean"] < 0.5
    # 0.001 USD a second
    assert costs(copy) == pytest.approx([1000 / cell["output_throughput"]["mean"]], rel=0.01)
    prices = tmp_path / "prices.toml"
    prices.write_text("[candidates]\nserved = 7.2\n")
    harness("report", copy, "--price", prices)
    assert costs(copy) == pytest.approx([2 * one for one in costs(before)])
    assert "Prices: served 7.20 USD an hour" in (copy / "table.md").read_text()
    beside = harness("report", copy, before, "--price", prices)
    assert beside.returncode == 2 and "--price is for one folder, and there are 2" in beside.stderr
