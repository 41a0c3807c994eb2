"""What the tests of whole comparisons need: the command, a small comparison file, more engines."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.briefly import HARNESS

ROOT = Path(__file__).parent.parent
SMALL = """
name = "small"
rounds = 2
[workload]
input_tokens = 16
output_tokens = 8
[profile]
context_tokens = 64
[[workload.load]]
concurrency = 1
requests = 3
[[workload.load]]
concurrency = 4
requests = 12
[[workload.load]]
requests = 8
"""
MARK = "STARTED_BY_TEST_COMPARE"
OURS = {MARK: str(os.getpid())}


def harness(*arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [*HARNESS, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **OURS, **(env or {})}, timeout=300, cwd="/"
    )


def small_file(folder: Path) -> Path:
    file = folder / "small.toml"
    file.write_text(SMALL)
    return file


def assert_compared(done: subprocess.CompletedProcess[str], folder: Path, alone: bool = True) -> dict[str, Any]:
    """Every cell was measured; returns comparison.json. The null engine is so fast that a busy machine can make
    the client too late for it, and under another name it is faster than memory allows the model that it claims to
    serve: these reject a cell, and nothing else may. `alone`: without a second engine, which the
    null engine is not, the exit status is 1 and the last line says so. It is 1 also where a candidate was skipped."""
    assert done.returncode in (0, 1), done.stderr + done.stdout
    comparison: dict[str, Any] = json.loads((folder / "comparison.json").read_text())
    checks = [check for cell in comparison["cells"] for check in cell["checks"]]
    rejecting = {check["code"] for check in checks if check["verdict"] == "invalid"}
    assert rejecting <= {"CLIENT_LAG", "PLAUSIBLE"}, rejecting
    assert bool(rejecting or alone or comparison["skipped"]) == bool(done.returncode), done.stdout
    assert done.stdout.splitlines()[-1].startswith("Nothing to compare with: ") == alone, done.stdout
    return comparison


BROKEN_ENGINE = """
from dataclasses import replace
from engines.fake import ENGINE as FAKE
ENGINE = replace(FAKE, name="{name}", title="{name}", color="#10{color}", null=False,
                 native=replace(FAKE.native, {native}))
"""


def with_engines(tmp_path: Path, **natives: str) -> dict[str, str]:
    """An environment whose `engines` package has more files in it: nothing else has to be edited."""
    package = tmp_path / "engines"
    shutil.copytree(ROOT / "engines", package, ignore=shutil.ignore_patterns("__pycache__"))
    for i, (name, native) in enumerate(natives.items()):
        (package / f"{name}.py").write_text(BROKEN_ENGINE.format(name=name, native=native, color=f"{i:04x}"))
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}  # harness is this checkout's
