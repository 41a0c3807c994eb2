"""The real engines, through the front door: a small comparison, what it must hold, and what must not remain.

Runs with every engine whose environment is there (`make compare` makes them). In CI a missing one is a
failure, elsewhere a skip with its reason."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

import engines
from harness.launch.install import cannot_install, environment_folder, is_installed
from harness.paths import cache_folder
from tests.signals import as_from_a_terminal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
HARNESS = [sys.executable, "-m", "harness.cli"]
REAL = {name: e for name, e in engines.load().items() if not e.null and not e.attach_only}
READY = [name for name, e in REAL.items() if is_installed(e, cache_folder())]
POINTS = ("c1", "c4", "offline")
FILE = """
name = "real"
rounds = 1
[workload]
input_tokens = 32
output_tokens = 16
[[workload.load]]
concurrency = 1
requests = 3
[[workload.load]]
concurrency = 4
requests = 8
[[workload.load]]
requests = 8
"""


def why_missing() -> str:
    missing = [e for name, e in REAL.items() if name not in READY]
    return "; ".join(
        f"{e.title} is not installed ({cannot_install(e, cache_folder()) or 'make compare installs it'})"
        for e in missing
    )


def require(*names: str) -> None:
    """The one place where a real engine that is not installed is let pass: never in CI."""
    if os.environ.get("CI"):
        assert not why_missing()
    if not set(names) <= set(READY):
        pytest.skip(why_missing())


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("plan") / "real.toml"
    file.write_text(FILE)
    return file


@pytest.fixture(scope="module")
def measured(plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    require(*(READY or REAL))
    folder = tmp_path_factory.mktemp("results") / "real"
    command = [*HARNESS, "compare", str(plan), "--engines", ",".join(READY), "--results", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode in (0, 1), done.stderr + done.stdout
    return folder


def test_every_engine_has_a_cell_at_every_load_point_with_one_schedule(measured: Path) -> None:
    comparison = json.loads((measured / "comparison.json").read_text())
    assert comparison["skipped"] == {}
    cells = {(cell["engine"], cell["load_point"]): cell for cell in comparison["cells"]}
    assert set(cells) == {(name, point) for name in READY for point in POINTS}
    for point in POINTS:
        manifests = [json.loads((run_of(measured, name, point) / "manifest.json").read_text()) for name in READY]
        assert len({m["schedule_digest"] for m in manifests}) == 1


def run_of(folder: Path, engine: str, point: str) -> Path:
    return folder / "runs" / engine / point / "round-1"


@pytest.mark.parametrize("name", REAL)
def test_lengths_counts_and_errors(measured: Path, name: str) -> None:
    require(name)
    for point in POINTS:
        rows = pq.read_table(run_of(measured, name, point) / "requests.parquet").to_pydict()
        assert set(rows["error"]) == {None}
        assert set(rows["output_tokens"]) == set(rows["reported_tokens"]) == {16}
        assert set(rows["prompt_tokens"]) == {32}
        assert set(rows["cached_tokens"]) <= {0, None}
        assert set(rows["finish_reason"]) == {"length"}
        samples = pq.read_table(run_of(measured, name, point) / "samples.parquet").to_pydict()
        assert {"engine_output_tokens_total"} <= set(samples["name"])
        counters = json.loads((run_of(measured, name, point) / "manifest.json").read_text())["counters"]
        # The engine's own count of what it generated during the run, against what the driver saw.
        assert counters["output_tokens"] == sum(rows["output_tokens"])


def test_engines_agree_on_a_lively_greedy_answer(measured: Path) -> None:
    answers = {}
    for name in READY:
        manifest = json.loads((run_of(measured, name, "c1") / "manifest.json").read_text())
        answers[name] = manifest["probe"]["answer_ids"]
        assert len(answers[name]) == 256
        assert len(set(answers[name])) > 150
    first, *others = answers.values()
    for other in others:
        same = sum(a == b for a, b in zip(first, other, strict=True))
        assert same >= 0.9 * len(first)


def test_nothing_is_left_running(measured: Path) -> None:
    assert engine_processes() == []


def engine_processes() -> list[str]:
    """Command lines of processes that run out of an engine's environment."""
    folders = [str(environment_folder(e, cache_folder())) for e in REAL.values()]
    lines = []
    for process in psutil.process_iter(["cmdline", "exe"]):
        line = " ".join(process.info["cmdline"] or []) + (process.info["exe"] or "")
        if any(folder in line for folder in folders):
            lines.append(line)
    return lines


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_no_engine_outlives_the_harness(plan: Path, tmp_path: Path, name: str, how: int) -> None:
    """Ended while the engine starts, the moment when it has the most processes of its own."""
    require(name)
    command = [*HARNESS, "compare", str(plan), "--engines", name, "--results", str(tmp_path / "r")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=as_from_a_terminal)
    until = time.monotonic() + 60
    while not engine_processes():
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.1)
    time.sleep(3)
    process.send_signal(how)
    process.communicate(timeout=60)
    until = time.monotonic() + 20
    while left := engine_processes():
        assert time.monotonic() < until, left
        time.sleep(0.2)
