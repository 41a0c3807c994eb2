"""What is sampled beside a run: a reader for each kind of source, all merged into one sample."""

from __future__ import annotations

import contextlib
import importlib
import operator
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any

import psutil

nvml: Any = importlib.import_module("pynvml")  # only partly typed
LOOK_AGAIN_S = 5.0
Seen = dict[str, float]
Reader = Callable[[], Seen]  # never waits; what cannot be read is left out


def of_processes(pid: int) -> Reader:
    """CPU seconds so far and resident bytes of the descendants of a process. They are looked for again every
    LOOK_AGAIN_S: finding them reads an entry for each process of the machine."""
    held: list[psutil.Process] = []
    looked = float("-inf")

    def read() -> Seen:
        nonlocal held, looked
        with contextlib.suppress(psutil.NoSuchProcess):
            if time.monotonic() - looked >= LOOK_AGAIN_S:
                held, looked = psutil.Process(pid).children(recursive=True), time.monotonic()
            return sample_processes(held)
        return {}

    return read


def sample_processes(processes: Sequence[psutil.Process]) -> Seen:
    """CPU seconds so far and resident bytes, summed over processes; shared pages count more than once."""
    cpu = rss = 0.0
    gone = 0
    for process in processes:
        try:
            with process.oneshot():
                times = process.cpu_times()
                rss += process.memory_info().rss
            cpu += times.user + times.system
        except psutil.Error:
            gone += 1
    # Without this line a stopped engine would have a memory of 0 and a CPU time that falls to 0.
    return {} if processes and gone == len(processes) else {"engine_cpu_s": round(cpu, 3), "engine_rss_bytes": rss}


def of_gpus(names: tuple[str, ...]) -> Reader:
    """The GPUs of these numbers or UUIDs."""
    return lambda: sample_gpus(find_gpus(names))


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


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _bits(values: Sequence[float]) -> float:
    return reduce(operator.or_, map(int, values))


def _clock_limits(gpu: Any) -> float:
    # NVML renamed it with driver 535; older drivers know only the old name.
    name = "nvmlDeviceGetCurrentClocksEventReasons"
    read = getattr(nvml, name, nvml.nvmlDeviceGetCurrentClocksThrottleReasons)
    try:
        return float(read(gpu))
    except nvml.NVMLError_FunctionNotFound:
        return float(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu))


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One series of the GPUs: what is read of each, and how several become one value."""

    name: str
    read: Callable[[Any], float]
    fold: Callable[[Sequence[float]], float]


GPU_READINGS: tuple[GpuReading, ...] = (
    GpuReading("gpu_memory_bytes", lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used, sum),
    GpuReading("gpu_power_w", lambda gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1e3, sum),
    GpuReading("gpu_energy_j", lambda gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1e3, sum),
    GpuReading("gpu_busy_percent", lambda gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu, _mean),
    GpuReading("gpu_sm_clock_mhz", lambda gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM), _mean),
    GpuReading("gpu_memory_clock_mhz", lambda gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM), _mean),
    GpuReading("gpu_temperature_c", lambda gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU), max),
    GpuReading("gpu_clock_limits", _clock_limits, _bits),  # a bit mask: why the clocks are not at their highest
)


def sample_gpus(gpus: Sequence[Any]) -> Seen:
    """One value for each series; one that a GPU does not report is left out."""
    found: Seen = {}
    for reading in GPU_READINGS if gpus else ():
        with contextlib.suppress(nvml.NVMLError):
            found[reading.name] = reading.fold([reading.read(gpu) for gpu in gpus])
    return found
