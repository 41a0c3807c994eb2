"""Starts an engine as a process on this machine, waits until it is ready, and makes sure that it stops."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from harness.adapter import Engine
from harness.driver.address import local
from harness.environment import OFFLINE, without_secrets
from harness.errors import CannotStart
from harness.launch.endpoint import Endpoint
from harness.launch.pages import Pages
from harness.launch.running import says_healthy, signals_deferred, tail, wait_refused, why_stopped
from harness.launch.start import Start
from harness.steps import Say, telling_line

_POLL_S = 0.1
# Without it, `python -m` imports from the folder that the harness was called in, which may be a model's.
_SAFE_PATH = {"PYTHONSAFEPATH": "1"}


@contextlib.contextmanager
def start_process(start: Start, say: Say) -> Iterator[Endpoint]:
    """The engine, ready to answer; on exit, all its processes are gone and its port refuses.

    Raises CannotStart if it does not get ready, with the most informative line of its log."""
    engine, log = start.engine, start.log
    command, env = start.command(), start.env()
    pages = local(start.port)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "harness.launch.guard", *command],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**without_secrets(os.environ, start.secrets), **OFFLINE, **_SAFE_PATH, **env},
            start_new_session=True,  # the terminal's Ctrl-C is for the harness, which then ends the engine
        )

    def ending() -> str | None:
        status = process.poll()
        return None if status is None else f"exited with status {status}"

    try:
        _wait_ready(engine, process, start, say)
        ready_s = time.monotonic() - began
        yield Endpoint(
            requests=local(start.requests_port),
            pages=pages,
            launch="process",
            stopped=lambda: why_stopped(engine, pages, ending(), log),
            device=start.device,
            gpus=start.gpus,
            pid=process.pid,
            log=log,
            package=start.package,
            launch_line=start.launch_line(),
            env=start.comparable_env(),
            cold_start_s={"ready": ready_s},
            files={"launch.json": {"command": command, "env": env}},
        )
    finally:
        _stop(process, start.port, engine.title)


def _wait_ready(engine: Engine, process: subprocess.Popen[bytes], start: Start, say: Say) -> None:
    began = time.monotonic()
    with Pages(local(start.port), deadline_s=2.0) as client:
        while not says_healthy(client, engine):
            _check_starting(engine, process, time.monotonic() - began, start.log)
            say(f"starting, {time.monotonic() - began:.0f} s")
            time.sleep(_POLL_S)


def _check_starting(engine: Engine, process: subprocess.Popen[bytes], waited: float, log: Path) -> None:
    if process.poll() is not None:
        line = telling_line(tail(log))
        raise CannotStart(f"exited with status {process.returncode} while starting: {line}. Log: {log}")
    if waited > engine.ready_timeout_s:
        line = telling_line(tail(log)[-1:])
        raise CannotStart(f"not ready after {engine.ready_timeout_s:g} s; the last line of its log: {line}. Log: {log}")


def _stop(process: subprocess.Popen[bytes], port: int, title: str) -> None:
    with signals_deferred():
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()  # the engine dies with its guard
            process.wait()
        wait_refused(port, title)
