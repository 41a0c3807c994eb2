"""The most that this machine can do: how fast it reads memory, and how fast it multiplies matrices.

An engine that decodes has to read every weight for each step, and one that reads a prompt has to multiply it with every
weight; none can be faster than that (Williams, Waterman and Patterson 2009, "Roofline"). So these numbers must not be
lower than what an engine can reach: the best of several tries and ways counts, with the working set that the weights
have, because caches count."""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from harness.machine import usable_cores, visible_gpus
from harness.records.calibration import Peak

nvml: Any = importlib.import_module("pynvml")  # only partly typed

MOST_BYTES = 1 << 30  # of a working set: beyond every cache
WORKING_SETS = 4  # measured, at most
TRY_S = 0.1  # of one way to read memory, or of the multiplication
PASS_BYTES = 64 << 20  # read between two looks at the clock, or starting threads would be measured
ROWS = 1024
GEMM_SIZE = 1536
# Compiled code may read or multiply somewhat faster than numpy does, and another process may have taken half of the
# memory's speed while it was measured.
MEASURED_UNCERTAINTY = 1.0
STATED_UNCERTAINTY = 0.10
# What a core's other units do in 16 or 8 bits against float32, at most: a word in /proc/cpuinfo -> times.
FASTER_UNITS = {"amx": 16.0, "vnni": 4.0, "i8mm": 4.0, "asimddp": 4.0, "bf16": 2.0, "avx512_fp16": 2.0}
GPU_CACHE_BYTES, GPU_CACHE_TIMES = 256 << 20, 5.0  # weights below this size may stay in a GPU's cache: times its memory
# Dense 16-bit FLOP/s by a part of the GPU's name, from NVIDIA's data sheets (without sparsity).
GPU_FLOPS = {
    "B200": 2.25e15,
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "RTX 4090": 330e12,
    "A10": 125e12,
    "L4": 121e12,
    "V100": 125e12,
    "T4": 65e12,
}
NARROW_TIMES = 4.0  # 4-bit numbers against 16-bit ones on a GPU


def machine_peaks(weight_bytes: Iterable[int | None]) -> tuple[Peak, ...]:
    """The peaks of the processor, one for each size of weights, and of a GPU if there is one. About a second."""
    sizes = sorted({min(size, MOST_BYTES) for size in weight_bytes if size})[:WORKING_SETS]
    if not sizes:
        return ()
    flops, flops_how = cpu_flops()
    found = [cpu_peak(size, flops, flops_how) for size in sizes]
    return (*found, *gpu_peaks())


def highest(first: Sequence[Peak], second: Sequence[Peak]) -> tuple[Peak, ...]:
    """The higher of two measurements of the same peaks."""

    def of(pair: tuple[Peak, Peak]) -> Peak:
        flops = max(peak.flops_per_s or 0.0 for peak in pair) or None
        return replace(max(pair, key=lambda peak: peak.bytes_per_s), flops_per_s=flops)

    return tuple(map(of, zip(first, second, strict=True)))


def cpu_peak(size: int, flops_per_s: float, flops_how: str) -> Peak:
    """The processor's peak with a working set of `size` bytes."""
    room = psutil.virtual_memory().available // 4
    values = np.ones((max(ROWS, min(size, room) // 4) // ROWS, ROWS), dtype=np.float32)
    bytes_per_s, way = max((_read_matrix(values), "matrix times vector"), (_read_threads(values), "one scan a core"))
    return Peak(
        device="cpu",
        bytes_per_s=bytes_per_s,
        flops_per_s=flops_per_s,
        how=f"memory: the best of several passes over {values.nbytes / 1e6:.3g} MB ({way}, float32, "
        f"{len(usable_cores())} cores); {flops_how}",
        uncertainty=MEASURED_UNCERTAINTY,
        working_set_bytes=values.nbytes,
    )


def _best_s(once: Callable[[], object]) -> float:
    """The shortest of the tries that fit into TRY_S, at least three."""
    times: list[float] = []
    until = time.perf_counter() + TRY_S
    while len(times) < 3 or time.perf_counter() < until:
        began = time.perf_counter()
        once()
        times.append(time.perf_counter() - began)
    return min(times)


def _read_matrix(values: np.ndarray) -> float:
    """Bytes/s of a matrix times a vector, on all cores: what an engine does with its weights."""
    vector, passes = np.ones(values.shape[1], dtype=np.float32), max(1, PASS_BYTES // values.nbytes)
    return float(values.nbytes * passes / _best_s(lambda: [values @ vector for _ in range(passes)]))


def _read_threads(values: np.ndarray) -> float:
    """Bytes/s of one scan on each core."""
    parts = np.array_split(values.reshape(-1).view(np.int32), len(usable_cores()))
    passes = max(1, PASS_BYTES // values.nbytes)

    def scan(part: np.ndarray) -> None:
        for _ in range(passes):
            np.bitwise_or.reduce(part)

    with ThreadPoolExecutor(len(parts)) as threads:
        return float(values.nbytes * passes / _best_s(lambda: list(threads.map(scan, parts))))


def cpu_flops() -> tuple[float, str]:
    """FLOP/s of the processor at most, and how it is known: measured in float32, times what its faster units for fewer
    bits can do."""
    square = np.ones((GEMM_SIZE, GEMM_SIZE), dtype=np.float32)
    measured = 2 * GEMM_SIZE**3 / _best_s(lambda: square @ square)
    name, times = faster_unit(_cpu_words())
    more = f" times {times:g} for its {name} units" if name else ""
    return measured * times, f"arithmetic: {measured / 1e9:.3g} GFLOP/s in float32, measured{more}"


def faster_unit(words: Sequence[str]) -> tuple[str, float]:
    """The fastest unit that the processor has beside float32, and its speed against it; ("", 1.0) without one."""
    found = [(name, times) for name, times in FASTER_UNITS.items() if any(name in word for word in words)]
    return max(found, key=lambda pair: pair[1], default=("", 1.0))


def _cpu_words() -> list[str]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    return next((line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))), [])


def gpu_peaks() -> tuple[Peak, ...]:
    """The peaks of one GPU, the fastest of those that engines may use here; empty without one, or if its memory's
    speed cannot be read. The first is for weights that its cache may hold."""
    best, name = max(map(_gpu_memory, visible_gpus()), default=(0.0, ""))
    if not best:
        return ()
    flops = next((value * NARROW_TIMES for part, value in GPU_FLOPS.items() if part in name), None)
    how = f"{name}: memory clock x bus width x 2 / 8, from NVML"
    how += f"; {flops / 1e12:.3g} TFLOP/s in 4 bits, from its data sheet" if flops else "; FLOP/s not known"
    cached = f"{how}; times {GPU_CACHE_TIMES:g}, as its cache may hold weights below {GPU_CACHE_BYTES >> 20} MiB"
    return (
        Peak("cuda", best * GPU_CACHE_TIMES, flops, cached, STATED_UNCERTAINTY, 0),
        Peak("cuda", best, flops, how, STATED_UNCERTAINTY, GPU_CACHE_BYTES),
    )


def _gpu_memory(gpu: str) -> tuple[float, str]:
    """Bytes/s of its memory at the highest clock, and its name; (0, "") if that cannot be read."""
    with contextlib.suppress(nvml.NVMLError):
        nvml.nvmlInit()
        by_number = gpu.isdigit()
        handle = nvml.nvmlDeviceGetHandleByIndex(int(gpu)) if by_number else nvml.nvmlDeviceGetHandleByUUID(gpu)
        megahertz = nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_MEM)
        return megahertz * 1e6 * nvml.nvmlDeviceGetMemoryBusWidth(handle) * 2 / 8, str(nvml.nvmlDeviceGetName(handle))
    return 0.0, ""
