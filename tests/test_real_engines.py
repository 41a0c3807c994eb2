"""The real engines, through the front door: a small comparison, what it must hold, and what must not remain.

Runs with every engine whose environment is there (`make compare` makes them), as a process, and with every engine
whose image was built here (`make images`), in a container. In CI a missing one is a failure, elsewhere a skip with
its reason. REAL_RESULTS names the folder of a comparison of all of them as processes, which is then looked at in place
of measuring again: `.ci/run` has made one."""

import itertools
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

import engines
from harness.errors import CannotStart
from harness.launch.compose import image_variable
from harness.launch.docker_host import docker_host, find_image
from harness.launch.images import image_tag
from harness.launch.install import cannot_install, environment_folder, is_installed
from harness.paths import cache_folder
from tests.briefly import HARNESS
from tests.parts import IN_CI, missing
from tests.signals import as_from_a_terminal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
# Those that install from the package index on a machine without a GPU; the others are in test_conformance*.py.
REAL = {name: e for name, e in engines.load().items() if e.native.install and not e.instead_of}
IMAGES = {name: e for name, e in REAL.items() if "cpu" in e.containers}
GIVEN = os.environ.get("REAL_RESULTS")
MARK = "STARTED_BY_TEST_REAL_ENGINES"
LAUNCHES = ("process", "compose")
LOADS = ("c1", "c4", "offline")
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


def why_missing(launch: str) -> dict[str, str]:
    """Engine -> why it cannot be tried in this way."""
    if launch == "process":
        return {
            name: cannot_install(e, "cpu", e.tested_on("cpu"), cache_folder()) or "make compare installs it"
            for name, e in REAL.items()
            if not is_installed(e, "cpu", e.tested_on("cpu"), cache_folder())
        }
    try:
        host = docker_host()
    except CannotStart as problem:
        return dict.fromkeys(IMAGES, str(problem))
    return {name: "make images builds it" for name, e in IMAGES.items() if find_image(host, image_tag(e)) is None}


def require(launch: str, *names: str) -> list[str]:
    """The engines that are there. The one place where one that is not is let pass: never in CI."""
    wanting = why_missing(launch)
    ready = [name for name in (REAL if launch == "process" else IMAGES) if name not in wanting]
    if not ready or not set(names) <= set(ready) or (IN_CI and wanting):
        missing(f"by {launch}: {wanting}")
    return ready


def environment(launch: str) -> dict[str, str]:
    """Containers from the images that were built here."""
    images = {image_variable(e): image_tag(e) for e in IMAGES.values()} if launch == "compose" else {}
    return {**os.environ, **images, MARK: str(os.getpid())}


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("plan") / "real.toml"
    file.write_text(FILE)
    return file


@dataclass(frozen=True)
class Measured:
    launch: str
    ready: list[str]
    folder: Path


@pytest.fixture(scope="module", params=LAUNCHES)
def measurement(request: pytest.FixtureRequest, plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    ready = require(request.param)
    if GIVEN and request.param == "process":
        return Measured("process", ready, Path(GIVEN).resolve())
    folder = tmp_path_factory.mktemp("results") / "real"
    command = [*HARNESS, "compare", str(plan), "--engines", ",".join(ready), "--results", str(folder)]
    command += ["--launch", request.param]
    done = subprocess.run(command, env=environment(request.param), capture_output=True, text=True, timeout=1200)
    assert done.returncode in (0, 1), done.stderr + done.stdout
    return Measured(request.param, ready, folder)


@pytest.fixture
def measured(measurement: Measured) -> Path:
    return measurement.folder


def test_every_engine_has_a_cell_at_every_load_with_one_schedule(measurement: Measured) -> None:
    measured, ready = measurement.folder, measurement.ready
    comparison = json.loads((measured / "comparison.json").read_text())
    assert comparison["skipped"] == {}
    cells = {(cell["candidate"], cell["load"]): cell for cell in comparison["cells"]}
    assert set(cells) == {(name, load) for name in ready for load in LOADS}
    for load in LOADS:
        manifests = [manifest_of(run_of(measured, name, load)) for name in ready]
        assert len({m["schedule"]["digest"] for m in manifests}) == 1


def run_of(folder: Path, engine: str, load: str) -> Path:
    return folder / "runs" / engine / load / "round-1"


def manifest_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "manifest.json").read_text())
    return found


def test_lengths_counts_and_errors(measurement: Measured) -> None:
    for name, load in itertools.product(measurement.ready, LOADS):
        run = run_of(measurement.folder, name, load)
        rows = pq.read_table(run / "requests.parquet").to_pydict()
        assert set(rows["error"]) == {None}, name
        assert rows["output_tokens"] == rows["reported_tokens"] == rows["asked_tokens"], name
        assert rows["prompt_tokens"] == rows["sent_tokens"] and min(rows["sent_tokens"]) >= 32, name
        assert set(rows["cached_tokens"]) <= {0, None}, name
        assert set(rows["finish_reason"]) == {"length"}, name
        counters, series = manifest_of(run)["counters"], REAL[name].series
        assert set(counters) == set(series), name
        if series:  # transformers serve has no page of counters
            sampled = pq.read_table(run / "samples.parquet")["name"].to_pylist()
            assert "engine_output_tokens_total" in sampled, name
            # The engine's own count of what it generated during the run, against what the driver saw.
            assert counters["output_tokens"] == sum(rows["output_tokens"]), name


def test_engines_agree_on_a_lively_greedy_answer(measurement: Measured) -> None:
    """By ids those that show them, by text all."""
    answers, texts = {}, {}
    for name in measurement.ready:
        probe = manifest_of(run_of(measurement.folder, name, "c1"))["probe"]
        assert probe["prompt_as"] == REAL[name].dialect.prompt
        assert bool(probe["answer_ids"]) == (probe["prompt_as"] == "ids")
        texts[name] = probe["answer_text"].strip()
        if probe["answer_ids"]:
            answers[name] = probe["answer_ids"]
            assert len(answers[name]) == 256
            assert len(set(answers[name])) > 150
    first, *others = answers.values()
    for other in others:
        same = sum(a == b for a, b in zip(first, other, strict=True))
        assert same >= 0.9 * len(first)
    assert all(len(text) > 256 for text in texts.values())
    alike = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*texts.values(), strict=False))
    assert len(list(alike)) >= 0.9 * max(map(len, texts.values())), texts


def test_an_engine_without_its_own_kernels_says_so_in_its_row(measurement: Measured) -> None:
    """It is named here, and so measured in as many rounds as the others, and ranked."""
    comparison = json.loads((measurement.folder / "comparison.json").read_text())
    rows = {one["name"]: one for one in comparison["candidates"]}
    said = {name: REAL[name].no_speed_on.get("cpu", "") for name in measurement.ready}
    assert {name: rows[name]["no_speed"] for name in measurement.ready} == said
    rounds = {name: len(list((measurement.folder / "runs" / name / "c1").iterdir())) for name in said}
    assert len(set(rounds.values())) == 1, rounds
    if any(said.values()):
        assert all(reason in (measurement.folder / "table.md").read_text() for reason in said.values())
    assert any(said.values()) == (measurement.launch == "process" and "sglang" in said)


def test_how_it_was_started_is_kept(measurement: Measured) -> None:
    for name in measurement.ready:
        run = run_of(measurement.folder, name, "c1")
        manifest = manifest_of(run)
        endpoint = manifest["endpoint"]
        assert (endpoint["launch"], endpoint["device"], endpoint["gpus"]) == (measurement.launch, "cpu", 0)
        assert (endpoint["version"], endpoint["tested_version"]) == (REAL[name].version, REAL[name].version)
        asked, shown = (found["settings"].get("context_tokens") for found in (endpoint, manifest["probe"]))
        assert asked in (1024, 1026) and shown == (asked if REAL[name].facts else None)
        inside = {"pull", "create", "start"} if measurement.launch == "compose" else set()
        assert set(endpoint["cold_start_s"]) == {"ready", "first_token"} | inside
        assert endpoint["cold_start_s"]["ready"] > 0.05
        samples = pq.read_table(run / "samples.parquet").to_pydict()
        assert max(v for n, v in zip(samples["name"], samples["value"], strict=True) if n == "engine_rss_bytes") > 1e7
        if measurement.launch == "compose":
            assert endpoint["image"]["name"] == image_tag(REAL[name]) and len(endpoint["image"]["digest"]) == 71
            assert "127.0.0.1" in (run / "compose.yaml").read_text()


def test_no_engine_writes_a_line_for_each_request(measurement: Measured) -> None:
    """Its front end would spend time on it. One that cannot be told to stop declares it."""
    for name in measurement.ready:
        for load, requests in (("c4", 8), ("offline", 8)):
            log = (run_of(measurement.folder, name, load) / "engine.log").read_text()  # of this run alone
            assert "log" in REAL[name].declared or len(log.splitlines()) < requests, log


def test_nothing_is_left_running(measured: Path) -> None:
    assert engine_processes() == [] and engine_containers() == []


def engine_containers() -> list[str]:
    label = "label=inference-engine-comparison.engine"
    if why_missing("compose").keys() == IMAGES.keys():
        return []
    listed = subprocess.run(["docker", "ps", "-aq", "--filter", label], capture_output=True, text=True, check=True)
    return listed.stdout.split()


def engine_processes() -> list[str]:
    """Command lines of processes that run out of an engine's environment. Of those that these tests started: others
    may measure on this machine, too, but not where the results are given."""
    folders = [str(environment_folder(e, "cpu", e.tested_on("cpu"), cache_folder())) for e in REAL.values()]
    lines = []
    for process in psutil.process_iter(["cmdline", "exe", "environ"]):
        line = " ".join(process.info["cmdline"] or []) + (process.info["exe"] or "")
        ours = GIVEN or (process.info["environ"] or {}).get(MARK) == str(os.getpid())
        if ours and any(folder in line for folder in folders):
            lines.append(line)
    return lines


def test_a_container_that_is_killed_in_mid_run_is_reported(plan: Path, tmp_path: Path) -> None:
    """Of the engine that starts soonest: Docker tells the same of every container."""
    name = "llamacpp"
    require("compose", name)
    long = tmp_path / "long.toml"
    long.write_text(FILE.replace("requests = 3", "requests = 500"))
    folder = tmp_path / "r"
    command = [*HARNESS, "compare", str(long), "--engines", f"{name},fake", "--results", str(folder)]
    process = subprocess.Popen(
        [*command, "--launch", "auto"],
        env=environment("compose"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = folder / "launches" / f"{name}-round-1.samples"  # the load has begun, or is about to
    until = time.monotonic() + 300
    while not log.exists() or process.poll() is not None:
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.2)
    time.sleep(3)
    subprocess.run(["docker", "kill", *engine_containers()], check=True, capture_output=True)
    out, err = process.communicate(timeout=300)
    assert process.returncode in (0, 1), out + err
    comparison = json.loads((folder / "comparison.json").read_text())
    assert "ended with status 137" in comparison["skipped"][name]
    assert "stopped on its own at load c1" in comparison["skipped"][name]
    assert {cell["candidate"] for cell in comparison["cells"]} == {"fake"}
    assert engine_containers() == []


@pytest.mark.parametrize(
    ("name", "how"),
    [
        pytest.param("vllm", signal.SIGINT, id="vllm-ctrl-c"),
        pytest.param("vllm", signal.SIGKILL, id="vllm-kill"),
        pytest.param("sglang", signal.SIGINT, id="sglang-ctrl-c"),
        pytest.param("sglang", signal.SIGKILL, id="sglang-kill"),
        pytest.param("llamacpp", signal.SIGKILL, id="llamacpp-kill"),
    ],
)
def test_no_engine_outlives_the_harness(plan: Path, tmp_path: Path, name: str, how: int) -> None:
    """Ended while the engine starts, the moment when it has the most processes of its own. vLLM and SGLang each start
    several, in different ways; llama.cpp is one program. Ctrl-C on a single process is tried with the null server."""
    require("process", name)
    command = [*HARNESS, "compare", str(plan), "--engines", name, "--launch", "process"]
    command += ["--results", str(tmp_path / "r")]
    process = subprocess.Popen(
        command,
        env=environment("process"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=as_from_a_terminal,
    )
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
