"""The ways in which an engine can start on this machine, the best first, and why others are not possible."""

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
NEEDS = {"cuda": "it only runs on a CPU", "cpu": "it needs an NVIDIA GPU, and there is none here"}


@dataclass(frozen=True, slots=True)
class Way:
    """One way to start an engine."""

    launch: Literal["compose", "process"]
    device: Device

    def __str__(self) -> str:
        return f"{'container' if self.launch == 'compose' else 'native process'} on the {ON[self.device]}"


@dataclass(frozen=True, slots=True)
class Here:
    """What this machine offers engines. If `docker` is None, `no_docker` says why."""

    docker: DockerHost | None
    no_docker: str
    device: Device


def look_around(device: Device | Literal["auto"] = "auto") -> Here:
    """What this machine offers. With "auto", all engines run on the GPU if there is one, so that they can be
    compared."""
    found: Device = "cuda" if describe_machine()["gpus"] else "cpu"
    chosen = found if device == "auto" else device
    try:
        return Here(docker_host(), "", chosen)
    except CannotStart as problem:
        return Here(None, str(problem), chosen)


def ways(engine: Engine, here: Here, launch: Launch = "auto") -> tuple[Sequence[Way], Sequence[str]]:
    """The ways to try (a container, then a process), and a reason for each that is not possible."""
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
            reasons.append(f"no native process: it cannot be installed natively for a {ON[here.device]}")
    return found, reasons
