"""Records what each installed engine really sends: `python -m tests.record_streams [ENGINE ...]`.

Every recording answers the same question, so that one test can demand the same counts of all of them."""

from __future__ import annotations

import http.client
import sys
import tempfile
from pathlib import Path

import engines
from harness.adapter import Engine, Profile
from harness.launch.install import ensure_installed
from harness.launch.process import free_port, launch
from harness.launch.values import launch_values, settings
from harness.measure.calibrate import null_server
from harness.model.resolve import resolve, weights
from harness.paths import cache_folder

STREAMS = Path(__file__).parent / "streams"
PROMPT = (300, 301, 302, 303)
OUTPUT_TOKENS = 24


def record(name: str) -> None:
    engine, cache = engines.load()[name], cache_folder()
    if engine.attach_only:  # there is no server of its own to ask
        with null_server(0.0, 0.0) as endpoint:
            _record(engine, "127.0.0.1", endpoint.port)
        return
    env = ensure_installed(engine, cache, print)
    model = resolve("tiny", cache)
    profile = Profile(dtype=model.weight_dtype)
    values = launch_values(
        engine,
        settings(engine, profile, 4),
        env,
        weights(model, engine.weights, cache, None),
        model.folder / "config.json",
        free_port(),
    )
    with tempfile.TemporaryDirectory() as folder, launch(engine, values, False, Path(folder) / "log", print) as running:
        _record(engine, *running.address)


def _record(engine: Engine, host: str, port: int) -> None:
    connection = http.client.HTTPConnection(host, port)
    body = engine.dialect.body(PROMPT, OUTPUT_TOKENS, more={"model": "bench"})
    connection.request("POST", engine.dialect.route, body, {"Content-Type": "application/json"})
    (STREAMS / f"{engine.name}.sse").write_bytes(connection.getresponse().read())


if __name__ == "__main__":
    for wanted in sys.argv[1:] or engines.load():
        record(wanted)
