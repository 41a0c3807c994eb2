"""An engine started here as a process on the CPU, with the model `tiny`."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.adapter import Engine, Profile
from harness.launch.endpoint import Endpoint
from harness.launch.install import ensure_installed
from harness.launch.process import start_process
from harness.launch.running import free_port
from harness.launch.start import Start
from harness.launch.values import Places, launch_values, settings
from harness.model.resolve import resolve, weights
from harness.paths import cache_folder
from harness.workload.candidate import Candidate
from harness.workload.spec import Workload


@contextlib.contextmanager
def started_here(engine: Engine, work: Workload) -> Iterator[Endpoint]:
    """Installs it if it is not there yet, starts it for this workload, and ends it with the block."""
    cache = cache_folder()
    env = ensure_installed(engine, "cpu", engine.tested_on("cpu"), cache, print)
    model = resolve("tiny", cache)
    program = engine.native.program.format(env=env)
    places = Places(
        env=env,
        cache=cache / "engines" / "kept" / engine.name,
        program=program,
        weights=weights(model, engine.weights, cache, None),
        cache_values=model.cache_values,
    )
    table = settings(engine, Profile(dtype=model.weight_dtype), work)
    values = launch_values(engine, table, places, (free_port(), free_port()), ())
    with tempfile.TemporaryDirectory() as folder:
        start = Start(engine, Candidate(engine=engine.name), "cpu", values, (), Path(folder) / "log")
        with start_process(start, print) as running:
            yield running
