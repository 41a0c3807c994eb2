"""A first comparison on a machine without a compiler, through the front door: the wheel of llama.cpp's server is
installed and measured, and every line says what it is."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from harness.launch.install import MARK
from tests.compare_parts import ROOT, harness
from tests.parts import missing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
FILES = ("__init__.py", "fake.py", "llamacpp.py", "xllamacpp.py")
FILE = """
name = "first"
rounds = 1
[workload]
input_tokens = 32
output_tokens = 16
[[workload.load]]
concurrency = 4
requests = 12
"""


def test_a_first_result_needs_no_compiler(tmp_path: Path) -> None:
    package, plan, folder, cache = (tmp_path / name for name in ("engines", "first.toml", "results", "cache"))
    package.mkdir()
    for name in FILES:
        shutil.copy(ROOT / "engines" / name, package)
    shutil.copytree(ROOT / "engines" / "xllamacpp_server", package / "xllamacpp_server")
    plan.write_text(FILE)
    env = {"PATH": str(tmp_path), "HARNESS_CACHE": str(cache)}
    env["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = harness("compare", plan, "--launch", "process", "--results", folder, env=env)
    said = " ".join((done.stderr + done.stdout).split())
    if not list(cache.glob(f"engines/xllamacpp-*/{MARK}")):
        missing(f"xllamacpp cannot be installed: {said}")
    assert done.returncode == 1, said  # one engine alone
    assert "llama.cpp skipped: no native process on the CPU: building it needs cmake, make, gcc, g++" in said
    started = "llama.cpp (xllamacpp wheel): native process on the CPU (in place of llamacpp, which cannot start here)"
    assert started in said
    comparison = json.loads((folder / "comparison.json").read_text())
    (cell,) = comparison["cells"]
    assert cell["candidate"] == "xllamacpp" and comparison["skipped"].keys() == {"llamacpp"}
    verdicts = {check["code"]: check["verdict"] for check in cell["checks"]}
    assert {verdicts[code] for code in ("LENGTH_PARITY", "TOKEN_COUNT", "PREFIX_CACHE", "ERROR_RATE")} == {"ok"}
    manifest = json.loads((folder / "runs" / "xllamacpp" / "c4" / "round-1" / "manifest.json").read_text())
    assert manifest["endpoint"]["version_from"] == "its package"
    assert manifest["probe"]["settings"]["threads"] == manifest["endpoint"]["settings"]["threads"]
    assert manifest["counters"]["output_tokens"] == 12 * 16
