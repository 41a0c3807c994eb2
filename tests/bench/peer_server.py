"""The null server that the clients are measured against, and its log, which says what was true."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from harness.errors import HarnessError
from harness.launch.running import free_port, tail
from harness.steps import telling_line
from tests.bench.peer_clients import Failed, Figures, Load, Server, percentiles

START_S = 30.0
STOP_S = 30.0


@dataclass(frozen=True, slots=True)
class Truth:
    """What the server did while a client ran. `peak_streams` were under way at once, which tells whether the
    load that was asked for ever came about; `cut` were given up by the client."""

    figures: Figures
    peak_streams: int
    cut: int


def truth_of(log: str, load: Load) -> Truth:
    """Raises Failed where no whole stream of the load's length was served: a client's probe is not its load."""
    streams = [json.loads(line) for line in log.splitlines()]
    whole = [s for s in streams if not s.get("cut") and len(s["write_ns"]) == load.output_tokens]
    if not whole:
        raise Failed("the server served no whole stream")
    read = np.array([s["arrived_ns"] for s in whole]) / 1e9
    write = np.array([s["write_ns"] for s in whole]) / 1e9
    p50, p99 = percentiles(write[:, 0] - read)
    tpot = (write[:, -1] - write[:, 0]) / (load.output_tokens - 1)
    rate = write.size / (write.max() - read.min())
    figures = Figures(len(whole), p50, p99, percentiles(tpot)[1], float(rate))
    return Truth(figures, _most_at_once(read, write[:, -1]), sum(bool(s.get("cut")) for s in streams))


def _most_at_once(began: np.ndarray[Any, Any], ended: np.ndarray[Any, Any]) -> int:
    times = np.concatenate([began, ended])
    steps = np.repeat([1, -1], [len(began), len(ended)])
    return int(np.cumsum(steps[np.argsort(times, kind="stable")]).max())


@contextlib.contextmanager
def null_server(load: Load, log: Path) -> Iterator[Server]:
    """It ends with this process, whatever way that ends."""
    port = free_port()
    command = [sys.executable, "-m", "harness.nullengine.server", "--until-eof", "--port", str(port)]
    command += ["--ttft", str(load.ttft_s), "--interval", str(load.interval_s), "--context", "4096"]
    with log.open("wb") as out:
        # A session of its own: Ctrl-C in a terminal is for this program, which then ends the server.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_ready(process, url, log)
        yield Server(url, process.pid)
    finally:
        end(process)


def _wait_ready(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + START_S
    while server.poll() is None and time.monotonic() < until:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health", trust_env=False).status_code == 200:
                return
        time.sleep(0.05)
    raise HarnessError(f"the null server did not start: {telling_line(tail(log))}")


def end(process: subprocess.Popen[bytes]) -> None:
    """By closing its standard input, which server and guard take as the word to end; else by force."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def fetch_truth(url: str) -> str:
    """What the server logged since the last call. Raises Failed where it had to drop some of it."""
    answer = httpx.get(f"{url}/truth", trust_env=False, timeout=60.0)
    answer.raise_for_status()
    if int(answer.headers.get("X-Dropped", 0)):
        raise Failed(f"the server's log lost {answer.headers['X-Dropped']} streams; ask for fewer requests")
    return answer.text
