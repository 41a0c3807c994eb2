"""The ways in which an engine could start on this machine, the best first, and why not the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from harness.adapter import Engine
from harness.errors import CannotStart
from harness.launch.docker_host import DockerHost, docker_host
from harness.machine import describe_machine

Launch = Literal["auto", "container", "process"]
Device = Literal["auto", "cuda", "cpu"]
ON = {"cuda": "GPU", "cpu": "CPU"}
NEEDS = {"cuda": "it runs on a CPU only", "cpu": "it needs an NVIDIA GPU, and there is none here"}


@dataclass(frozen=True, slots=True)
class Way:
    """One way to start an engine."""

    launch: Literal["container", "process"]
    device: Literal["cuda", "cpu"]

    def __str__(self) -> str:
        return f"{'container' if self.launch == 'container' else 'native process'} on the {ON[self.device]}"


@dataclass(frozen=True, slots=True)
class Here:
    """What this machine has for engines. `docker` null: `no_docker` says why."""

    docker: DockerHost | None
    no_docker: str
    device: Literal["cuda", "cpu"]


def look_around(device: Device = "auto") -> Here:
    """Engines run on the GPU where there is one: some on it and some beside it would be no comparison."""
    found: Literal["cuda", "cpu"] = "cuda" if describe_machine()["gpus"] else "cpu"
    chosen = found if device == "auto" else device
    try:
        return Here(docker_host(), "", chosen)
    except CannotStart as problem:
        return Here(None, str(problem), chosen)


def ways(engine: Engine, here: Here, launch: Launch = "auto") -> tuple[Sequence[Way], Sequence[str]]:
    """What to try, in this order: a container, a process; and one reason for each that is not tried."""
    found: list[Way] = []
    reasons: list[str] = []
    if launch in ("auto", "container") and engine.containers:
        if here.docker is None:
            reasons.append(f"no container: {here.no_docker}")
        elif here.device not in engine.containers:
            reasons.append(f"no container: {NEEDS[here.device]}")
        elif here.device == "cuda" and not here.docker.gpu:
            reasons.append("no container: Docker has no NVIDIA runtime; install the NVIDIA Container Toolkit")
        else:
            found.append(Way("container", here.device))
    elif launch == "container":
        reasons.append("has no container")
    if launch in ("auto", "process"):
        native = engine.native if here.device == "cpu" or engine.null else engine.native_cuda
        if native is not None and native.command:
            found.append(Way("process", "cpu" if engine.null else here.device))
        else:
            reasons.append(f"no native process: it has no installation for a {ON[here.device]}")
    return found, reasons


def as_started(engine: Engine, way: Way) -> Engine:
    """The engine whose `native` is the one of that way."""
    return replace(engine, native=engine.native_cuda) if way.device == "cuda" and engine.native_cuda else engine
