"""Starts of engines without a comparison around them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from harness.adapter import Device, Engine
from harness.launch.running import free_port
from harness.launch.start import Start
from harness.workload.candidate import Candidate

# Of what launch_values gives, what the null server and the engines of these tests take.
VALUES: Mapping[str, object] = {
    "python": sys.executable,
    "env": Path("/nowhere/env"),
    "context_tokens": 64,
    "prefix_cache": False,
    "grpc_port": 0,
}


def start_of(
    engine: Engine,
    log: Path,
    *,
    port: int | None = None,
    device: Device = "cpu",
    gpus: tuple[str, ...] = (),
    candidate: Candidate | None = None,
    values: Mapping[str, object] | None = None,
) -> Start:
    """A start on a free port, or on `port`; `values` beside those of every start."""
    own = candidate or Candidate(engine=engine.name, name=engine.name)
    filled = {**VALUES, **(values or {}), "port": free_port() if port is None else port}
    return Start(engine, own, device, filled, gpus, log)
