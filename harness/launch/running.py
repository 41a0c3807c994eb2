"""What every kind of start has in common: a free port, the health page, a stop that is certain."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from harness.adapter import Engine
from harness.driver.address import Address, tls_context
from harness.errors import CannotStart, HarnessError
from harness.launch.steps import telling_line

HOST = "127.0.0.1"
_PORT_REFUSES_S = 15.0


def free_port(wanted: int = 0) -> int:
    """`wanted`, or any free port for 0. Raises HarnessError if `wanted` is taken."""
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


def two_free_ports(wanted: int = 0) -> tuple[int, int]:
    """`wanted` or any free port, and another one."""
    first = free_port(wanted)
    while (second := free_port()) == first:
        pass
    return first, second


def page_client(address: Address, key: str | None = None, timeout_s: float = 10.0) -> httpx.Client:
    """For a server's pages, outside the clock. One for many polls: making a new one for each would take a fifth of a
    core from the engine that starts. No proxy of the environment is used: it would answer for the server."""
    return httpx.Client(
        base_url=address.url,
        timeout=timeout_s,
        trust_env=False,
        verify=tls_context(address.ca_file) if address.tls else False,
        headers={"Authorization": f"Bearer {key}"} if key else {},
    )


def says_healthy(client: httpx.Client, engine: Engine) -> bool:
    """Refused and 503 both mean "not yet": some engines listen while they load, others do not."""
    with contextlib.suppress(httpx.HTTPError):
        return client.get(engine.health).status_code == 200
    return False


def healthy(engine: Engine, pages: Address) -> bool:
    """Whether the engine's health page says yes."""
    with page_client(pages) as client:
        return says_healthy(client, engine)


def why_stopped(engine: Engine, pages: Address, ending: str | None, log: Path) -> str | None:
    """None while it runs and answers, else why it does not, by its log. Asked of the engine as well: one whose inner
    process died may still hold its port. `ending`: how its process ended, where it has."""
    if ending is None and healthy(engine, pages):
        return None
    line = telling_line(tail(log))
    return f"{line} ({ending})" if ending else line


def tail(log: Path, lines: int = 60) -> list[str]:
    """The last non-empty lines of a log."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 65536))
        text = file.read().decode(errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip()][-lines:]


def wait_refused(port: int, title: str) -> None:
    """Stopped means that the port refuses. Raises CannotStart if it goes on answering."""
    until = time.monotonic() + _PORT_REFUSES_S
    while answers(port):
        if time.monotonic() > until:
            raise CannotStart(f"{title} was stopped, yet port {port} still answers")
        time.sleep(0.05)


def answers(port: int) -> bool:
    """Whether anything accepts connections there, on this machine."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1.0):
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
