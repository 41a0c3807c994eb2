"""A running server, started or attached to, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.adapter import Device
from harness.driver.address import Address
from harness.records.manifest import ImageFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A server started by Docker Compose or as a process, or attached to by its URL. What cannot be known is None.

    `pages`: the address of its health, facts and counters. `pid`: the process whose descendants are the engine.
    `launch_line` and `env`: its command, with paths and ports as {braces}, so that two starts can be compared.
    `files`: name -> content (JSON or text) for the run folder, about how it was started."""

    requests: Address
    pages: Address
    launch: Literal["compose", "process", "attach"]
    stopped: Callable[[], str | None]  # None while it runs and answers, else why it does not
    device: Device | None = None
    gpus: tuple[str, ...] | None = None  # by number or UUID; empty on a CPU
    url: str = ""  # where requests go, for a server that was attached to
    pid: int | None = None
    log: Path | None = None
    key: str | None = None  # its API key; never stored
    image: ImageFacts | None = None
    package: str = ""  # the version of the package that was installed for it
    launch_line: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cold_start_s: Mapping[str, float] = field(default_factory=dict)  # phase -> seconds
    files: Mapping[str, Any] = field(default_factory=dict)
