"""Samples the CPU time and memory of a process tree, and the GPUs, in a separate process.

In the driver's process, sampling would take the interpreter from the driver and add to the client's lag."""

from __future__ import annotations

import contextlib
import importlib
import json
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from harness.launch.endpoint import Endpoint

INTERVAL_S = 0.5
nvml: Any = importlib.import_module("pynvml")  # only partly typed
Seen = dict[str, float]


@dataclass(frozen=True, slots=True)
class Sampled:
    """What is sampled: the descendants of a process, and GPUs by number or UUID. `out`: the output file, JSON lines."""

    pid: int
    gpus: tuple[str, ...]
    out: Path

    @staticmethod
    def of(endpoint: Endpoint) -> Sampled | None:
        """None if the endpoint's processes cannot be seen from here."""
        if endpoint.pid is None or endpoint.log is None:
            return None
        return Sampled(endpoint.pid, endpoint.gpus or (), endpoint.log.with_suffix(".samples"))


@contextlib.contextmanager
def sampling(sampled: Sampled) -> Iterator[None]:
    """Samples until the block is left."""
    with sampled.out.open("wb") as lines:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.campaign.sampler", str(sampled.pid), *sampled.gpus],
            stdin=subprocess.PIPE,
            stdout=lines,
            start_new_session=True,
        )
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def read_samples(
    sampled: Sampled | None, around: tuple[Seen, Seen], start_ns: int, end_ns: int
) -> list[tuple[float, str, float]]:
    """Rows (seconds since `start_ns`, name, value) of the samples between the two monotonic times. `around`: one sample
    just before and one just after, because a run may be shorter than the interval."""
    before, after = around
    rows = [(0.0, name, float(value)) for name, value in before.items() if name != "at_ns"]
    rows += [((end_ns - start_ns) / 1e9, name, float(value)) for name, value in after.items() if name != "at_ns"]
    for line in sampled.out.read_text().splitlines() if sampled else ():
        with contextlib.suppress(ValueError):  # a line that is still being written
            sample = json.loads(line)
            at = sample.pop("at_ns")
            if start_ns <= at <= end_ns:
                rows += [((at - start_ns) / 1e9, name, float(value)) for name, value in sample.items()]
    return rows


def sample(processes: Sequence[psutil.Process]) -> Seen:
    """CPU seconds so far and resident bytes, summed over processes; shared pages count more than once."""
    cpu = rss = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error), process.oneshot():
            times = process.cpu_times()
            cpu += times.user + times.system
            rss += process.memory_info().rss
    return {"at_ns": time.monotonic_ns(), "engine_cpu_s": round(cpu, 3), "engine_rss_bytes": rss}


@cache
def find_gpus(names: tuple[str, ...]) -> tuple[Any, ...]:
    """The GPUs as NVML handles; those that NVML does not know are left out."""
    found = []
    for name in names:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlInit()
            by_number = name.isdigit()
            found.append(
                nvml.nvmlDeviceGetHandleByIndex(int(name)) if by_number else nvml.nvmlDeviceGetHandleByUUID(name)
            )
    return tuple(found)


def sample_gpus(gpus: Sequence[Any]) -> Seen:
    """Memory in use and power draw, summed, and busy time, averaged over the GPUs; what a GPU does not report is left
    out."""
    readings: dict[str, Callable[[Any], float]] = {
        "gpu_memory_bytes": lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
        "gpu_power_w": lambda gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1e3,
        "gpu_busy_percent": lambda gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / len(gpus),
    }
    found: Seen = {}
    for name, read in readings.items() if gpus else ():
        with contextlib.suppress(nvml.NVMLError):
            found[name] = sum(read(gpu) for gpu in gpus)
    return found


def observe(sampled: Sampled | None) -> Seen:
    """One sample, now; empty if the processes cannot be seen."""
    if sampled is None:
        return {}
    with contextlib.suppress(psutil.NoSuchProcess):
        return sample(psutil.Process(sampled.pid).children(recursive=True)) | sample_gpus(find_gpus(sampled.gpus))
    return {}


def main(pid: int, gpus: tuple[str, ...]) -> None:
    """Samples until standard input ends, which it does when the harness ends in any way."""
    while not select.select([0], [], [], INTERVAL_S)[0]:
        if seen := observe(Sampled(pid, gpus, Path())):
            print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), tuple(sys.argv[2:]))
