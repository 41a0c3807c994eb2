"""`harness compare` with a budget: further rounds, the table after each, a repeated round, and two at once."""

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.briefly import HARNESS
from tests.cli import harness as here
from tests.compare_parts import OURS, harness, with_engines

pytestmark = pytest.mark.live

TIMED = """
name = "timed"
rounds = 2
precision = PRECISION
budget = "BUDGET"
[workload]
input_tokens = {from = 8, to = 24}
output_tokens = {from = 4, to = 12}
[profile]
context_tokens = 64
[[workload.load]]
concurrency = 2
at_least_s = 0.4
at_least_requests = 4
at_most_s = 5
"""
SERVER = (
    'command=("{{python}}", "-m", "harness.nullengine.server", "--port", "{{port}}", '
    '"--context", "{{context_tokens}}", "--ttft", "{ttft}", "--interval", "{interval}")'
)


def timed_file(folder: Path, precision: float, budget: str) -> Path:
    file = folder / "timed.toml"
    file.write_text(TIMED.replace("PRECISION", str(precision)).replace("BUDGET", budget))
    return file


def campaign_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "campaign.json").read_text())
    return found


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two engines that are no null engines: their pairs are asked."""
    return with_engines(
        tmp_path_factory.mktemp("engines"),
        quick=SERVER.format(ttft=0.04, interval=0.002),
        slow=SERVER.format(ttft=0.05, interval=0.004),
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, engines: dict[str, str]) -> tuple[Path, str]:
    """A finished comparison whose precision is out of reach, and what the terminal showed."""
    folder = tmp_path_factory.mktemp("results") / "r"
    file = timed_file(folder.parent, 0.00001, "24s")
    done = harness("compare", file, "--engines", "quick,slow", "--results", folder, env=engines)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return folder, done.stdout


@pytest.mark.slow
def test_rounds_go_on_until_the_budget_ends(measured: tuple[Path, str]) -> None:
    folder, shown = measured
    campaign = campaign_of(folder)
    rounds = campaign["rounds_measured"]
    assert rounds > 2 == campaign["rounds"], campaign
    assert campaign["ended"].startswith("the budget of 0.4 min has no room for a round more")
    assert len(list(folder.glob("runs/*/c2/*/manifest.json"))) == 2 * rounds
    assert len(list((folder / "schedule" / "c2").iterdir())) == rounds
    comparison = json.loads((folder / "comparison.json").read_text())
    assert comparison["rounds"] == rounds and {len(cell["rounds"]) for cell in comparison["cells"]} == {rounds}
    assert f"round {rounds}: not all pairs are known to the wanted precision yet" in shown
    for r in range(1, rounds + 1):
        assert f"After round {r} of {max(2, r)}, preliminary" in shown
    table = shown.split("After round 2 of 2, preliminary")[1].split("After round")[0]
    assert re.search(r"c2 +quick +[\d.]+ \[[\d.]+, [\d.]+\]", table) and " slow " in table


@pytest.mark.slow
def test_each_run_goes_on_for_its_time_and_lengths_come_from_the_range(measured: tuple[Path, str]) -> None:
    import pyarrow.parquet as pq

    folder, _ = measured
    for run in folder.glob("runs/*/c2/*"):
        rows = pq.read_table(run / "requests.parquet").to_pydict()
        manifest = json.loads((run / "manifest.json").read_text())
        assert 0.4 <= manifest["duration_s"] < 3 and 4 <= len(rows["index"]) < manifest["schedule"]["requests"]
        assert set(rows["status"]) == {"ok"} and rows["output_tokens"] == rows["asked_tokens"]
        assert (
            len(set(rows["prompt_tokens"])) > 3 and 8 <= min(rows["prompt_tokens"]) <= max(rows["prompt_tokens"]) <= 24
        )
        facts = manifest["schedule"]
        assert (facts["input_tokens"], facts["input_lengths"]) == (None, {"from": 8, "to": 24})


@pytest.mark.slow
def test_the_time_left_has_the_starts_in_it(measured: tuple[Path, str]) -> None:
    _, shown = measured
    first, *_, last = re.findall(r"run \d+/\d+ .*", shown)
    assert re.search(r"; about 0:\d\d left \(0:0\d of it load\), and the starts of (quick|slow)", first)
    assert "left" not in last


@pytest.mark.slow
def test_a_round_is_measured_again_only_when_asked_for(
    measured: tuple[Path, str], engines: dict[str, str], tmp_path: Path
) -> None:
    folder, _ = measured
    file = folder.parent / "timed.toml"
    stamp = (folder / "runs" / "quick" / "c2" / "round-1" / "manifest.json").stat().st_mtime_ns
    old = (folder / "runs" / "slow" / "c2" / "round-2" / "requests.parquet").read_bytes()
    refused = harness("compare", file, "--engines", "quick", "--resume", folder, "--again", 2, env=engines)
    assert refused.returncode == 2 and "leave --engines out" in refused.stderr
    refused = harness("compare", file, "--resume", folder, "--again", 99, env=engines)
    assert refused.returncode == 2 and "there is no round 99 to repeat" in refused.stderr
    assert here("compare", file, "--again", 2).stderr.startswith("harness: --again needs --resume DIR")
    both = 'engines = ["quick", "slow"]\n' + file.read_text()
    (tmp_path / "both.toml").write_text(both)
    done = harness("compare", tmp_path / "both.toml", "--resume", folder, "--again", 2, env=engines)
    assert done.returncode in (0, 1), done.stderr
    assert f"round 2 is measured again; its runs are in {folder}/set-aside/round-2-1" in done.stdout.replace("\n", "")
    aside = folder / "set-aside" / "round-2-1" / "slow" / "c2"
    assert (aside / "requests.parquet").read_bytes() == old
    assert (folder / "runs" / "slow" / "c2" / "round-2" / "requests.parquet").read_bytes() != old
    assert (folder / "runs" / "quick" / "c2" / "round-1" / "manifest.json").stat().st_mtime_ns == stamp
    assert campaign_of(folder)["repeated"] == [2]
    assert json.loads((folder / "comparison.json").read_text())["repeated"] == [2]


@pytest.mark.slow
def test_two_at_once_in_one_folder_are_refused(tmp_path: Path, engines: dict[str, str]) -> None:
    file, folder = timed_file(tmp_path, 0.00001, "60s"), tmp_path / "r"
    command = [*HARNESS, "compare", str(file), "--engines", "quick,slow", "--results", str(folder)]
    first = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **OURS, **engines}, cwd="/"
    )
    try:
        until = time.monotonic() + 60
        while not (folder / "campaign.json").exists():
            assert first.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        second = harness("compare", file, "--engines", "quick,slow", "--resume", folder, env=engines)
        assert second.returncode == 2 and "another harness is writing in there" in second.stderr
    finally:
        first.terminate()
        first.wait(30)
    assert campaign_of(folder)["finished"] is False
