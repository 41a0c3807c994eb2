"""A real model on real engines, through the front door: by text and by chat, in bfloat16 and in 4 bits. Its answers end
by themselves and stand beside each other."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

import engines
from harness.launch.install import is_installed
from harness.paths import cache_folder
from tests.briefly import HARNESS
from tests.parts import missing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
NAMES = ("llamacpp", "llamacpp-q4", "llamacpp-chat", "transformers")
PLAN = """
name = "real-model"
model = "smollm2"
rounds = 1
launch = "process"
[workload]
texts = "built-in"
ends = "natural"
output_tokens = 24
[[workload.load]]
concurrency = 2
requests = 6
[[candidate]]
engine = "llamacpp"
[[candidate]]
name = "llamacpp-q4"
engine = "llamacpp"
model = "smollm2:Q4_1"
args = ["--no-repack"]
[[candidate]]
name = "llamacpp-chat"
engine = "llamacpp"
prompt = "chat"
[[candidate]]
engine = "transformers"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    known = engines.load()
    for name in ("llamacpp", "transformers"):
        if not is_installed(known[name], "cpu", known[name].tested_on("cpu"), cache_folder()):
            missing(f"{name} is not installed; make compare installs it")
    made = tmp_path_factory.mktemp("real-model")
    (made / "plan.toml").write_text(PLAN)
    command = [*HARNESS, "compare", str(made / "plan.toml"), "--results", str(made / "r")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode in (0, 1), done.stderr + done.stdout
    return made / "r"


@pytest.fixture(scope="module")
def comparison(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "comparison.json").read_text())
    return found


def test_every_candidate_is_measured_and_none_is_wrong(comparison: dict[str, Any]) -> None:
    assert comparison["skipped"] == {} and {cell["candidate"] for cell in comparison["cells"]} == set(NAMES)
    busy = {"CLIENT_LAG", "PLAUSIBLE"}  # of a machine that does other work
    wrong = {c["code"] for cell in comparison["cells"] for c in cell["checks"] if c["verdict"] == "invalid"}
    assert wrong <= busy


def test_engines_that_serve_the_same_weights_begin_their_answers_alike(comparison: dict[str, Any]) -> None:
    (check,) = [
        check
        for cell in comparison["cells"]
        if cell["candidate"] == "transformers"
        for check in cell["checks"]
        if check["code"] == "ANSWERS"
    ]
    assert check["numbers"]["leading_characters"] >= 16, check


def test_a_chat_template_is_counted_and_answers_end_by_themselves(folder: Path) -> None:
    probes = {name: manifest(folder, name)["probe"] for name in NAMES}
    assert (probes["llamacpp"]["prompt_offset"], probes["llamacpp-chat"]["prompt_offset"]) == (0, 30)
    assert probes["llamacpp-chat"]["prompt_as"] == "chat" and probes["transformers"]["prompt_as"] == "text"
    assert len(probes["llamacpp-chat"]["answer_ids"] or probes["llamacpp-chat"]["answer_text"]) > 0
    assert manifest(folder, "llamacpp-q4")["model"]["weight_dtype"] == "Q4_1"


def manifest(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "runs" / name / "c2" / "round-1" / "manifest.json").read_text())
    return found


def test_the_answers_stand_beside_each_other(comparison: dict[str, Any], folder: Path) -> None:
    assert len(comparison["texts"]) >= 3
    for one in comparison["texts"]:
        assert {name for said in one["said"] for name in said["candidates"]} == set(NAMES)
        assert "A friend asks" in one["prompt"]
    page = (folder / "report.html").read_text()
    assert "A friend asks" in page and "llama.cpp q4 Q4_1" in page
