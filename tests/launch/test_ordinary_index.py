"""vLLM on the CPU as most people get it: from the package index alone, with the ordinary torch.

CI installs it, once, into the user's cache folder; elsewhere the test is skipped until that is done."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import engines
from harness.adapter import Venv
from harness.errors import INVALID_CELLS, NOTHING_STARTED
from harness.launch.install import MARK, cannot_install, environment_folder, is_installed
from harness.paths import CACHE_VARIABLE, cache_folder
from tests.parts import IN_CI, missing

VLLM = engines.load()["vllm"]
FILE = """
name = "ordinary"
rounds = 1
[workload]
input_tokens = 8
output_tokens = 4
[[workload.load]]
concurrency = 1
requests = 1
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_vllm_answers_with_the_torch_of_the_package_index(tmp_path: Path) -> None:
    cache = cache_folder() / "ordinary-index"
    if not is_installed(VLLM, "cpu", VLLM.version, cache):
        if not IN_CI:
            pytest.skip("only CI installs vLLM, 6 GB, a second time")
        if reason := cannot_install(VLLM, "cpu", VLLM.version, cache):
            missing(reason)
    plan, empty = tmp_path / "plan.toml", tmp_path / "empty"
    plan.write_text(FILE)
    empty.mkdir()
    # Variables take the place of pip's configuration files; an empty value would not.
    no_extras = {"PIP_FIND_LINKS": str(empty), "PIP_EXTRA_INDEX_URL": empty.as_uri()}
    command = [sys.executable, "-m", "harness.cli", "compare", str(plan), "--engines", "vllm", "--launch", "process"]
    done = subprocess.run(
        [*command, "--results", str(tmp_path / "results")],
        env={**os.environ, **no_extras, CACHE_VARIABLE: str(cache)},
        capture_output=True,
        text=True,
        timeout=1400,
    )
    if done.returncode == NOTHING_STARTED and not is_installed(VLLM, "cpu", VLLM.version, cache):
        missing(done.stderr)
    assert done.returncode == INVALID_CELLS, done.stderr + done.stdout  # alone: nothing to compare with
    recipe = VLLM.native.install
    assert isinstance(recipe, Venv)
    packages = json.loads((environment_folder(VLLM, "cpu", VLLM.version, cache) / MARK).read_text())["packages"]
    assert [p for p in packages if p.startswith("torch")] == [recipe.requirements[0]] == ["torch==2.13.0"]
    rows = pq.read_table(tmp_path / "results" / "runs" / "vllm" / "c1" / "round-1" / "requests.parquet").to_pydict()
    assert (rows["error"], rows["output_tokens"]) == ([None], [4])
