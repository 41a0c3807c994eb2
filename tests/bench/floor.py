"""Builds and runs the yardstick: what a client that only reads and stamps takes on this machine (floor.c)."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.parts import missing

SOURCE = Path(__file__).with_name("floor.c")


def build(folder: Path) -> Path:
    """The program, compiled into `folder`. Skips the calling test where there is no C compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        missing("no C compiler: gcc is not installed")
    program = folder / "floor"
    subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, SOURCE], check=True)
    return program


def run_floor(port: int, connections: int, requests: int, payload: bytes, folder: Path) -> dict[str, Any]:
    """Sends `payload` (a whole HTTP/1.1 request) `requests` times over `connections` kept connections.

    Returns requests, reads, stamped (reads with a kernel time stamp), bytes, wall_s and cpu_s. Against the
    null server a token is one send, so reads are tokens, less those that two tokens shared. Raises
    CalledProcessError when the server closes a connection or refuses."""
    program = folder / "floor"
    if not program.exists():
        program = build(folder)
    (folder / "floor.http").write_bytes(payload)
    command: list[str | Path] = [program, str(port), str(connections), str(requests), folder / "floor.http"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured
