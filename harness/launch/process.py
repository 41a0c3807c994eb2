"""Starts an engine as a process of this machine, waits until it is ready, and stops it for certain."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.adapter import Engine
from harness.errors import CannotStart
from harness.launch.running import (
    HOST,
    Running,
    health_client,
    says_healthy,
    signals_deferred,
    tail,
    wait_refused,
)
from harness.launch.steps import Say, telling_line, without_secrets

_POLL_S = 0.1


def command_line(engine: Engine, values: Mapping[str, object]) -> list[str]:
    """The launch line with its braces filled."""
    words = [*engine.native.command, *engine.prefix_cache[bool(values["prefix_cache"])]]
    return [word.format_map(values) for word in words]


@contextlib.contextmanager
def launch(engine: Engine, values: Mapping[str, object], log: Path, say: Say) -> Iterator[Running]:
    """The engine, ready to answer; on leaving, it and all its processes are gone and its port refuses.

    Raises CannotStart with the most telling line of its log where it does not get ready."""
    command = command_line(engine, values)
    env = {name: value.format_map(values) for name, value in engine.native.env.items()}
    address = (HOST, int(str(values["port"])))
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.launch.guard", *command],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**without_secrets(os.environ), **env},
            start_new_session=True,  # the terminal's Ctrl-C is for the harness, which then ends the engine
        )

    def exited() -> str | None:
        status = process.poll()
        return None if status is None else f"exited with status {status}"

    try:
        _wait_ready(engine, process, address, log, say)
        ready_s = time.monotonic() - began
        yield Running(
            address=address,
            requests_address=(HOST, int(str(values["grpc_port"]))) if engine.grpc else address,
            pid=process.pid,
            exited=exited,
            phases={"ready": ready_s},
            files={"launch.json": {"command": command, "env": env}},
        )
    finally:
        _stop(process, address, engine.title)


def _wait_ready(
    engine: Engine, process: subprocess.Popen[bytes], address: tuple[str, int], log: Path, say: Say
) -> None:
    began = time.monotonic()
    with health_client() as client:
        while not says_healthy(client, engine, address):
            _check_starting(engine, process, time.monotonic() - began, log)
            say(f"starting, {time.monotonic() - began:.0f} s")
            time.sleep(_POLL_S)


def _check_starting(engine: Engine, process: subprocess.Popen[bytes], waited: float, log: Path) -> None:
    if process.poll() is not None:
        line = telling_line(tail(log))
        raise CannotStart(f"exited with status {process.returncode} while starting: {line}. Log: {log}")
    if waited > engine.ready_timeout_s:
        line = telling_line(tail(log)[-1:])
        raise CannotStart(f"not ready after {engine.ready_timeout_s:g} s; the last it said: {line}. Log: {log}")


def _stop(process: subprocess.Popen[bytes], address: tuple[str, int], title: str) -> None:
    with signals_deferred():
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()  # the engine dies with its guard
            process.wait()
        wait_refused(address, title)
