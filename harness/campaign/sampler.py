"""Samples the CPU time and memory of a process tree, and the GPUs, in a process of its own.

In the driver's process the sampling would take the interpreter from the driver while tokens arrive."""

from __future__ import annotations

import contextlib
import importlib
import json
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from harness.machine import first_gpu

INTERVAL_S = 0.5
nvml: Any = importlib.import_module("pynvml")  # half annotated


@contextlib.contextmanager
def sampling(pid: int | None, out: Path) -> Iterator[None]:
    """Samples the tree under `pid` into `out`, a JSON object a line, until the block is left; null: nothing
    can be seen of it."""
    if pid is None:
        out.write_bytes(b"")
        yield
        return
    with out.open("wb") as lines:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.campaign.sampler", str(pid)],
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
    out: Path, before: dict[str, float], after: dict[str, float], start_ns: int, end_ns: int
) -> list[tuple[float, str, float]]:
    """Rows (seconds since `start_ns`, name, value) of the samples between the two monotonic times, and of those
    taken just before and just after: a run may be shorter than the interval."""
    rows = [(0.0, name, float(value)) for name, value in before.items() if name != "at_ns"]
    rows += [((end_ns - start_ns) / 1e9, name, float(value)) for name, value in after.items() if name != "at_ns"]
    for line in out.read_text().splitlines():
        with contextlib.suppress(ValueError):  # the line that is being written just now
            sample = json.loads(line)
            at = sample.pop("at_ns")
            if start_ns <= at <= end_ns:
                rows += [((at - start_ns) / 1e9, name, float(value)) for name, value in sample.items()]
    return rows


def sample(processes: Sequence[psutil.Process]) -> dict[str, float]:
    """CPU seconds so far and resident bytes, summed over processes; shared pages count more than once."""
    cpu = rss = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error), process.oneshot():
            times = process.cpu_times()
            cpu += times.user + times.system
            rss += process.memory_info().rss
    return {"at_ns": time.monotonic_ns(), "engine_cpu_s": round(cpu, 3), "engine_rss_bytes": rss}


@cache
def find_gpu() -> Any:
    """The GPU that engines get, as the driver's library knows it; null without one."""
    wanted = first_gpu()
    with contextlib.suppress(nvml.NVMLError):
        nvml.nvmlInit()
        if wanted.isdigit():
            return nvml.nvmlDeviceGetHandleByIndex(int(wanted))
        return nvml.nvmlDeviceGetHandleByUUID(wanted)
    return None


def sample_gpu(gpu: Any) -> dict[str, float]:
    """Memory in use, power draw and busy time; what the GPU does not tell is left out."""
    readings: dict[str, Callable[[Any], float]] = {
        "gpu_memory_bytes": lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
        "gpu_power_w": lambda gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1e3,
        "gpu_busy_percent": lambda gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu,
    }
    found: dict[str, float] = {}
    for name, read in readings.items() if gpu is not None else ():
        with contextlib.suppress(nvml.NVMLError):
            found[name] = read(gpu)
    return found


def observe(pid: int | None) -> dict[str, float]:
    """One sample of what is under `pid`, now; empty where nothing can be seen of it."""
    if pid is None:
        return {}
    with contextlib.suppress(psutil.NoSuchProcess):
        return sample(psutil.Process(pid).children(recursive=True)) | sample_gpu(find_gpu())
    return {}


def main(pid: int) -> None:
    """Until standard input ends: with the harness, however it ends."""
    while not select.select([0], [], [], INTERVAL_S)[0]:
        if seen := observe(pid):
            print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
