"""What a started engine is to whoever measures it, and what every kind of start has in common."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from harness.adapter import Engine
from harness.errors import CannotStart, HarnessError
from harness.launch.steps import telling_line

HOST = "127.0.0.1"
_PORT_REFUSES_S = 15.0


@dataclass(frozen=True, slots=True)
class Running:
    """An engine that answers.

    `address`: of its health page; `requests_address`: where its requests go. `pid`: the process whose
    descendants are the engine, null where they cannot be seen from here. `phases`: seconds that each step of
    its start took. `files`: what the run folder keeps of how it started, by name; JSON or text."""

    address: tuple[str, int]
    requests_address: tuple[str, int]
    pid: int | None
    exited: Callable[[], str | None]  # null while it runs, else how it ended
    phases: Mapping[str, float]
    image: Mapping[str, str] = field(default_factory=dict)  # name and digest, of a container
    files: Mapping[str, Any] = field(default_factory=dict)


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


def health_client() -> httpx.Client:
    """One for many polls: making a new one for each would take a fifth of a core from the engine that starts."""
    return httpx.Client(timeout=2.0, trust_env=False, verify=False)


def says_healthy(client: httpx.Client, engine: Engine, address: tuple[str, int]) -> bool:
    """Refused and 503 both mean "not yet": some engines listen while they load, others do not."""
    with contextlib.suppress(httpx.HTTPError):
        return client.get(f"http://{address[0]}:{address[1]}{engine.health}").status_code == 200
    return False


def healthy(engine: Engine, address: tuple[str, int]) -> bool:
    """Whether the engine's health page says yes."""
    with httpx.Client(timeout=10.0, trust_env=False, verify=False) as client:
        return says_healthy(client, engine, address)


def healthy_or_why(engine: Engine, running: Running, log: Path) -> str | None:
    """Null while it runs and answers, else its last words. Asked of the engine as well: one whose inner process
    died may still hold its port."""
    if running.exited() is None and healthy(engine, running.address):
        return None
    line, ending = telling_line(tail(log)), running.exited()
    return f"{line} ({ending})" if ending else line


def tail(log: Path, lines: int = 60) -> list[str]:
    """The last non-empty lines of a log."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 65536))
        text = file.read().decode(errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip()][-lines:]


def wait_refused(address: tuple[str, int], title: str) -> None:
    """Stopped means that the port refuses. Raises CannotStart where it goes on answering."""
    until = time.monotonic() + _PORT_REFUSES_S
    while answers(address):
        if time.monotonic() > until:
            raise CannotStart(f"{title} was stopped, yet port {address[1]} still answers")
        time.sleep(0.05)


def answers(address: tuple[str, int]) -> bool:
    """Whether anything accepts connections there."""
    with contextlib.suppress(OSError), socket.create_connection(address, timeout=1.0):
        return True
    return False


@contextlib.contextmanager
def signals_deferred() -> Iterator[None]:
    """Holds back Ctrl-C and its like until the block is done, then interrupts: cut short, the stopping would
    leave an engine that slows the next one."""
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
