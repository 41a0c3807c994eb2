"""Candidates of real engines in one comparison: other flags, an own program, an own interpreter, quantised weights, and
a server that was started by hand, by its completions and by its chat route."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import engines
from harness.launch.install import environment_folder, is_installed
from harness.launch.running import free_port
from harness.model.resolve import Model, resolve
from harness.paths import cache_folder
from tests.briefly import HARNESS
from tests.parts import missing
from tests.quantised import write_q8_0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
KNOWN = engines.load()
# llama.cpp rearranges Q8_0 weights for AMX, which some virtual machines announce and do not allow: it crashes there.
PLAN = """
name = "candidates"
rounds = 1
launch = "process"
[workload]
input_tokens = 32
output_tokens = 16
[[workload.load]]
concurrency = 1
requests = 2
[[workload.load]]
concurrency = 4
requests = 8
[[candidate]]
engine = "llamacpp"
[[candidate]]
name = "llamacpp-ub128"
engine = "llamacpp"
args = ["--ubatch-size", "128"]
[[candidate]]
name = "llamacpp-mine"
engine = "llamacpp"
program = "{program}"
[[candidate]]
name = "llamacpp-q8"
engine = "llamacpp"
model = "{q8}"
args = ["--no-repack"]
[[candidate]]
engine = "vllm"
python = "{python}"
[[candidate]]
name = "hand-completions"
engine = "openai"
url = "http://127.0.0.1:{port}/v1"
fields = {{ignore_eos = true}}
[[candidate]]
name = "hand-chat"
engine = "llamacpp"
url = "http://127.0.0.1:{port}/v1/chat/completions"
"""
NAMES = ["llamacpp", "llamacpp-ub128", "llamacpp-mine", "llamacpp-q8", "vllm", "hand-completions", "hand-chat"]


def installed(name: str) -> Path:
    engine, cache = KNOWN[name], cache_folder()
    version = engine.tested_on("cpu")
    if not is_installed(engine, "cpu", version, cache):
        missing(f"{engine.title} is not installed; make compare installs it")
    return environment_folder(engine, "cpu", version, cache)


@pytest.fixture(scope="module")
def model() -> Model:
    return resolve("tiny", cache_folder())


@pytest.fixture(scope="module")
def program() -> Path:
    return installed("llamacpp") / "build" / "bin" / "llama-server"


@pytest.fixture(scope="module")
def server(program: Path, model: Model) -> Iterator[int]:
    """A llama-server as somebody starts it by hand; its port."""
    port = free_port()
    weights = next(model.folder.glob("*.gguf"))
    command = [program, "--model", weights, "--port", port, "--parallel", 4, "--ctx-size", 2048, "--no-ui"]
    command += ["--no-cache-prompt", "--slot-prompt-similarity", 0]
    with subprocess.Popen(
        list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            until = time.monotonic() + 60
            while not answers(port):
                assert process.poll() is None and time.monotonic() < until, "llama-server did not start"
                time.sleep(0.1)
            yield port
        finally:
            process.terminate()


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def measured(server: int, program: Path, model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One comparison of all of them."""
    work = tmp_path_factory.mktemp("candidates")
    q8 = write_q8_0(next(model.folder.glob("*.gguf")), work / "tiny-q8_0.gguf")
    python = installed("vllm") / "bin" / "python"
    file = work / "candidates.toml"
    file.write_text(PLAN.format(program=program, python=python, q8=q8, port=server))
    done = subprocess.run(
        [*HARNESS, "compare", str(file), "--results", str(work / "r")], capture_output=True, text=True, timeout=1200
    )
    assert done.returncode in (0, 1), done.stderr + done.stdout
    return work / "r"


@pytest.fixture(scope="module")
def comparison(measured: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((measured / "comparison.json").read_text())
    return found


def manifest(folder: Path, name: str) -> dict[str, Any]:
    file = folder / "runs" / name / "c4" / "round-1" / "manifest.json"
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_every_candidate_was_measured_with_the_same_requests(measured: Path, comparison: dict[str, Any]) -> None:
    assert comparison["skipped"] == {}
    assert [one["name"] for one in comparison["candidates"]] == NAMES
    assert len({manifest(measured, name)["schedule"]["digest"] for name in NAMES}) == 1
    for cell in comparison["cells"]:
        assert cell["requests_failed"] == 0, cell["candidate"]
        assert {check["code"] for check in cell["checks"] if check["verdict"] == "invalid"} <= {"CLIENT_LAG"}


def test_each_is_what_it_was_declared_to_be(measured: Path) -> None:
    assert manifest(measured, "llamacpp-ub128")["endpoint"]["launch_line"][-2:] == ["--ubatch-size", "128"]
    assert manifest(measured, "llamacpp-q8")["model"]["weight_dtype"] == "Q8_0"
    assert manifest(measured, "llamacpp-q8")["model"]["weights"] == "tiny-q8_0.gguf"
    plain = manifest(measured, "llamacpp")
    own = manifest(measured, "llamacpp-mine")
    assert own["endpoint"]["launch_line"] == plain["endpoint"]["launch_line"]
    assert own["endpoint"]["version"] == plain["endpoint"]["version"] == "b11434"
    assert manifest(measured, "vllm")["endpoint"]["version"] == "0.32.0"


def test_of_the_server_started_by_hand_what_it_shows_is_known_and_the_rest_is_not(measured: Path) -> None:
    chat, completions = manifest(measured, "hand-chat"), manifest(measured, "hand-completions")
    assert (chat["endpoint"]["launch"], chat["endpoint"]["version"]) == ("attach", "b11434")
    assert chat["endpoint"]["settings"]["concurrent_sequences"] == 4
    assert completions["endpoint"]["version"] is None and "version" in completions["endpoint"]["unknown"]
    assert completions["endpoint"]["url"].endswith("/v1/completions")
    assert completions["probe"]["prompt_offset"] == 0 and chat["probe"]["prompt_offset"] > 0


def test_the_chat_template_is_no_fault_and_what_is_not_known_is_one_note(
    measured: Path, comparison: dict[str, Any]
) -> None:
    cells = {(cell["candidate"], cell["load"]): cell for cell in comparison["cells"]}
    checks = {check["code"]: check for check in cells["hand-chat", "c4"]["checks"]}
    # The template more than doubles these prompts of 32 tokens, and TTFT is that of the longer ones.
    doubled = manifest(measured, "hand-chat")["probe"]["prompt_offset"] > 32
    assert checks["PROMPT_PARITY"]["verdict"] == ("doubt" if doubled else "note")
    config = checks["CONFIG_PARITY"]  # a doubt, because it shows other settings than the others have
    assert config["numbers"]["not_known"] and config["message"].startswith("Settings differ: concurrent_sequences")
    doubts = {code for code, check in checks.items() if check["verdict"] == "doubt"}
    assert not {"PREFIX_CACHE", "PRECISION", "ANSWERS", "TOKEN_COUNT"} & doubts


def test_the_same_program_and_weights_answer_alike(measured: Path) -> None:
    ids = {name: manifest(measured, name)["probe"]["answer_ids"] for name in NAMES}
    assert ids["llamacpp"] and ids["llamacpp"] == ids["llamacpp-mine"] == ids["llamacpp-ub128"]
    assert len(ids["llamacpp-q8"]) == len(ids["llamacpp"]) == len(ids["vllm"])


def test_the_frozen_requests_of_every_cell_lie_beside_the_runs(measured: Path) -> None:
    from harness.records.schedules import read_schedule, schedule_file

    for load in ("c1", "c4"):
        schedule = read_schedule(schedule_file(measured, load, 1))
        digest = json.loads((measured / f"runs/vllm/{load}/round-1/manifest.json").read_text())["schedule"]["digest"]
        assert schedule.digest == digest
