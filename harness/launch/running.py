"""What all kinds of start share: a free port, the health page, waiting until the port refuses."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from harness.adapter import Engine
from harness.driver.address import Address
from harness.errors import CannotStart, HarnessError
from harness.launch.pages import NoPage, Pages
from harness.steps import telling_line

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


def says_healthy(pages: Pages, engine: Engine) -> bool:
    """Whether the health page returns 200. Some engines refuse connections while they load, others answer 503."""
    with contextlib.suppress(NoPage):
        return pages.get(engine.health).status == 200
    return False


def healthy(engine: Engine, pages: Address) -> bool:
    """The same, with a new client."""
    with Pages(pages) as client:
        return says_healthy(client, engine)


def why_stopped(engine: Engine, pages: Address, ending: str | None, log: Path) -> str | None:
    """None while it runs and answers, else the reason from its log. Checks the health page too: if an inner process has
    died, the port may still be open. `ending`: how its process ended, if it has."""
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
    """Waits until the port refuses connections. Raises CannotStart if it goes on answering."""
    until = time.monotonic() + _PORT_REFUSES_S
    while answers(port):
        if time.monotonic() > until:
            raise CannotStart(f"{title} was stopped, but port {port} still answers")
        time.sleep(0.05)


def answers(port: int) -> bool:
    """Whether anything accepts connections there, on this machine."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1.0):
        return True
    return False


@contextlib.contextmanager
def signals_deferred() -> Iterator[None]:
    """Delays Ctrl-C and similar signals until the block is done: an engine that is not completely stopped would slow
    down the next one."""
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
