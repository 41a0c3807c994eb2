"""Facts about the machine, stored with each result."""

from __future__ import annotations

import hashlib
import os
import platform
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import psutil


def usable_cores() -> list[int]:
    """The cores that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def visible_gpus(named: str | None = None) -> tuple[str, ...]:
    """The NVIDIA GPUs that engines may use, by number, UUID or MIG name: those of `named` (default: the variable
    CUDA_VISIBLE_DEVICES) up to a -1, as CUDA reads it, else all that the driver lists."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES") if named is None else named
    if named is not None:
        names = (part.strip() for part in named.split(","))
        return tuple(filter(None, takewhile(lambda name: name != "-1", names)))
    return tuple(map(str, range(len(_gpus()))))


@cache
def describe_machine() -> dict[str, Any]:
    """CPU, memory, GPUs and system. `id` is the same for all runs on one machine and identifies no person."""
    facts: dict[str, Any] = {
        "cpu": _cpu_model(),
        "cores": len(usable_cores()),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": _gpus(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
    secret = Path("/etc/machine-id")
    salt = secret.read_text(encoding="utf-8").strip() if secret.is_file() else platform.node()
    known = repr((salt, facts["cpu"], facts["cores"], facts["gpus"]))
    return {"id": hashlib.sha256(known.encode()).hexdigest()[:12], **facts}


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return " ".join(line.split(":", 1)[1].split())
    return platform.processor() or platform.machine()


def _gpus() -> list[str]:
    """Names of NVIDIA GPUs as the driver lists them; empty without the driver."""
    found = Path("/proc/driver/nvidia/gpus").glob("*/information")
    lines = [line for path in found for line in path.read_text(encoding="utf-8").splitlines()]
    return [line.split(":", 1)[1].strip() for line in lines if line.startswith("Model:")]
