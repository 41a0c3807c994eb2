"""The ways in which an engine could start on this machine, the best first, and why not the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harness.adapter import Device, Engine
from harness.errors import CannotStart
from harness.launch.docker_host import DockerHost, docker_host
from harness.machine import describe_machine
from harness.workload.candidate import Launch

ON = {"cuda": "GPU", "cpu": "CPU"}
NEEDS = {"cuda": "it runs on a CPU only", "cpu": "it needs an NVIDIA GPU, and there is none here"}


@dataclass(frozen=True, slots=True)
class Way:
    """One way to start an engine."""

    launch: Literal["compose", "process"]
    device: Device

    def __str__(self) -> str:
        return f"{'container' if self.launch == 'compose' else 'native process'} on the {ON[self.device]}"


@dataclass(frozen=True, slots=True)
class Here:
    """What this machine has for engines. `docker` None: `no_docker` says why."""

    docker: DockerHost | None
    no_docker: str
    device: Device


def look_around(device: Device | Literal["auto"] = "auto") -> Here:
    """Engines run on the GPU where there is one: some on it and some beside it would be no comparison."""
    found: Device = "cuda" if describe_machine()["gpus"] else "cpu"
    chosen = found if device == "auto" else device
    try:
        return Here(docker_host(), "", chosen)
    except CannotStart as problem:
        return Here(None, str(problem), chosen)


def ways(engine: Engine, here: Here, launch: Launch = "auto") -> tuple[Sequence[Way], Sequence[str]]:
    """What to try, in this order: a container, a process; and one reason for each that is not tried."""
    found: list[Way] = []
    reasons: list[str] = []
    if launch in ("auto", "compose") and engine.containers:
        if here.docker is None:
            reasons.append(f"no container: {here.no_docker}")
        elif here.device not in engine.containers:
            reasons.append(f"no container: {NEEDS[here.device]}")
        elif here.device == "cuda" and not here.docker.gpu:
            reasons.append("no container: Docker has no NVIDIA runtime; install the NVIDIA Container Toolkit")
        else:
            found.append(Way("compose", here.device))
    elif launch == "compose":
        reasons.append("has no container")
    if launch in ("auto", "process"):
        if engine.native_on(here.device):
            found.append(Way("process", "cpu" if engine.null else here.device))
        else:
            reasons.append(f"no native process: it has no installation for a {ON[here.device]}")
    return found, reasons
