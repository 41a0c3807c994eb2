"""Starts an engine as a process of this machine, waits until it is ready, and stops it for certain."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from harness.adapter import Engine, Native
from harness.errors import CannotStart, HarnessError
from harness.launch.steps import Say, telling_line

HOST = "127.0.0.1"
_PORT_REFUSES_S = 15.0
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Running:
    """An engine that answers: its address, the process to sample, the line that started it."""

    address: tuple[str, int]
    pid: int
    command: tuple[str, ...]
    env: Mapping[str, str]
    start_s: float  # from the start of the process until the health page said yes
    exited: Callable[[], bool]


def free_port(wanted: int = 0) -> int:
    """`wanted`, or any free port for 0. Raises HarnessError where `wanted` is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError as problem:
            raise HarnessError(
                f"port {wanted} on {HOST} cannot be used ({problem.strerror}); "
                "stop what listens there, or set port = 0 in the comparison file for any free one."
            ) from None
        port: int = probe.getsockname()[1]
        return port


def command_line(native: Native, values: Mapping[str, object], prefix_cache: bool) -> list[str]:
    """The launch line with its braces filled."""
    words = [*native.command, *native.prefix_cache[prefix_cache]]
    return [word.format_map(values) for word in words]


@contextlib.contextmanager
def launch(engine: Engine, values: Mapping[str, object], prefix_cache: bool, log: Path, say: Say) -> Iterator[Running]:
    """The engine, ready to answer; on leaving, it and all its processes are gone and its port refuses.

    Raises CannotStart with the most telling line of its log where it does not get ready."""
    native = engine.native
    command = command_line(native, values, prefix_cache)
    env = {name: value.format_map(values) for name, value in native.env.items()}
    address = (HOST, int(str(values["port"])))
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.launch.guard", *command],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **env},
            start_new_session=True,  # the terminal's Ctrl-C is for the harness, which then ends the engine
        )
    try:
        _wait_ready(engine, process, address, log, say)
        start_s = time.monotonic() - began
        yield Running(address, process.pid, tuple(command), env, start_s, lambda: process.poll() is not None)
    finally:
        _stop(process, address, engine.title)


def _wait_ready(
    engine: Engine, process: subprocess.Popen[bytes], address: tuple[str, int], log: Path, say: Say
) -> None:
    url = f"http://{address[0]}:{address[1]}{engine.health}"
    began = time.monotonic()
    # One client: making a new one for every poll would take a fifth of a core from the engine that starts.
    with httpx.Client(timeout=2.0, trust_env=False, verify=False) as client:
        while not _healthy(client, url):
            _check_starting(engine, process, time.monotonic() - began, log)
            say(f"starting, {time.monotonic() - began:.0f} s")
            time.sleep(_POLL_S)


def _healthy(client: httpx.Client, url: str) -> bool:
    """Refused and 503 both mean "not yet": some engines listen while they load, others do not."""
    with contextlib.suppress(httpx.HTTPError):
        return client.get(url).status_code == 200
    return False


def healthy(engine: Engine, address: tuple[str, int]) -> bool:
    """Whether the engine's health page says yes."""
    with httpx.Client(timeout=10.0, trust_env=False, verify=False) as client:
        return _healthy(client, f"http://{address[0]}:{address[1]}{engine.health}")


def _check_starting(engine: Engine, process: subprocess.Popen[bytes], waited: float, log: Path) -> None:
    if process.poll() is not None:
        line = telling_line(tail(log))
        raise CannotStart(f"exited with status {process.returncode} while starting: {line}. Log: {log}")
    if waited > engine.native.ready_timeout_s:
        line = telling_line(tail(log)[-1:])
        raise CannotStart(f"not ready after {engine.native.ready_timeout_s:g} s; the last it said: {line}. Log: {log}")


def tail(log: Path, lines: int = 60) -> list[str]:
    """The last non-empty lines of a log."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 65536))
        text = file.read().decode(errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip()][-lines:]


def _stop(process: subprocess.Popen[bytes], address: tuple[str, int], title: str) -> None:
    with _signals_deferred():  # cut short, the stopping would leave an engine that slows the next one
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()  # the engine dies with its guard
            process.wait()
        until = time.monotonic() + _PORT_REFUSES_S
        while answers(address):
            if time.monotonic() > until:
                raise CannotStart(f"{title} was stopped, yet port {address[1]} still answers")
            time.sleep(0.05)


@contextlib.contextmanager
def _signals_deferred() -> Iterator[None]:
    """Holds back Ctrl-C and its like until the block is done, then interrupts."""
    came: list[int] = []
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    handlers = {n: signal.signal(n, lambda number, _: came.append(number)) for n in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def answers(address: tuple[str, int]) -> bool:
    """Whether anything accepts connections there."""
    with contextlib.suppress(OSError), socket.create_connection(address, timeout=1.0):
        return True
    return False
