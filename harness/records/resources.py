"""What a run took of the machine, from its samples, and what it cost: an entry for each number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from harness.records.latencies import times
from harness.records.metric import Metric
from harness.records.rates import RATES
from harness.records.run import RunResult
from harness.records.samples import Series, mean_over, series_of, slope

HOUR_S = 3600.0
MILLION = 1e6


@dataclass(frozen=True, slots=True)
class EnergySource:
    """Where joules come from. `counts`: the series is a counter of joules; otherwise it is a power in watts."""

    series: str  # its name in samples.parquet
    title: str
    counts: bool


# The first one that a run has is used, alone: a wall meter contains what the others measure.
ENERGY_SOURCES: tuple[EnergySource, ...] = (
    EnergySource("command_power_w", "power_command", counts=False),
    EnergySource("gpu_energy_j", "the GPUs' energy counter", counts=True),
    EnergySource("gpu_power_w", "the GPUs' power", counts=False),
    EnergySource("cpu_energy_j", "the CPU's energy counter (RAPL)", counts=True),
)


def energy_source(run: RunResult) -> EnergySource | None:
    """Where the joules of this run come from; None if no power or energy was sampled."""
    found = series_of(run.folder)
    return next((source for source in ENERGY_SOURCES if source.series in found), None)


def _series(run: RunResult, name: str) -> Series | None:
    return series_of(run.folder).get(name)


def _power_w(run: RunResult) -> float | None:
    source = energy_source(run)
    if source is None:
        return None
    found = series_of(run.folder)[source.series]
    return slope(found) if source.counts else mean_over(found, run.manifest.duration_s)


def _joules_per_output_token(run: RunResult) -> float | None:
    # Of every request, also failed and cancelled ones: their tokens took energy too.
    power, tokens = _power_w(run), float(np.nansum(times(run, "output_tokens")))
    return power * run.manifest.duration_s / tokens if power is not None and tokens > 0 else None


def _highest(name: str, run: RunResult) -> float | None:
    found = _series(run, name)
    return None if found is None else float(found.values.max())


def _rate(name: str, run: RunResult) -> float | None:
    found = _series(run, name)
    return None if found is None else slope(found)


def _share_of_percent(name: str, run: RunResult) -> float | None:
    found = _series(run, name)
    mean = None if found is None else mean_over(found, run.manifest.duration_s)
    return None if mean is None else mean / 100


def _mean(name: str, run: RunResult) -> float | None:
    found = _series(run, name)
    return None if found is None else mean_over(found, run.manifest.duration_s)


def _cost(rate: Callable[[RunResult], float | None], run: RunResult) -> float | None:
    price = run.manifest.candidate.price_usd_per_hour
    tokens_per_s = None if price is None else rate(run)
    return price / HOUR_S / tokens_per_s * MILLION if price is not None and tokens_per_s else None


def _input_rate(run: RunResult) -> float | None:
    total, output = _TOTAL_RATE(run), _OUTPUT_RATE(run)
    return None if total is None or output is None else total - output


_RATE_OF = {metric.key: metric.of for metric in RATES}
_OUTPUT_RATE, _TOTAL_RATE = _RATE_OF["output_throughput"], _RATE_OF["total_throughput"]
_ENERGY = "over the whole run; the source: " + ", else ".join(source.title for source in ENERGY_SOURCES)
_COST = "usd_per_hour / 3600 / {} tokens per second (throughput) * 1e6; not known without a price"

RESOURCES: tuple[Metric, ...] = (
    Metric(
        key="engine_cpu_cores",
        title="Engine CPU",
        short="CPU cores",
        unit="cores",
        larger_is_better=False,
        formula="CPU seconds of the engine's processes / seconds, over the whole run",
        help="How many CPU cores the engine kept busy, on average.",
        of=partial(_rate, "engine_cpu_s"),
    ),
    Metric(
        key="engine_memory_peak",
        title="Engine memory, peak",
        short="memory",
        unit="bytes",
        larger_is_better=False,
        formula="highest sample of the resident memory of the engine's processes; shared pages count more than once",
        help="The most memory that the engine's processes held.",
        of=partial(_highest, "engine_rss_bytes"),
    ),
    Metric(
        key="gpu_memory_peak",
        title="GPU memory, peak",
        short="GPU memory",
        unit="bytes",
        larger_is_better=False,
        formula="highest sample of the memory in use on the candidate's GPUs, summed",
        help="The most GPU memory in use, by whatever ran there; many engines reserve a fixed share of it in advance.",
        of=partial(_highest, "gpu_memory_bytes"),
    ),
    Metric(
        key="gpu_busy",
        title="GPU busy",
        short="GPU busy",
        unit="fraction",
        larger_is_better=None,
        formula="mean over the run of the share of time in which a kernel ran, averaged over the candidate's GPUs",
        help="The share of time in which the GPU ran anything at all; not how much of it was used.",
        of=partial(_share_of_percent, "gpu_busy_percent"),
    ),
    Metric(
        key="gpu_sm_clock",
        title="GPU clock",
        short="GPU MHz",
        unit="MHz",
        larger_is_better=None,
        formula="mean over the run of the SM clock, averaged over the candidate's GPUs",
        help="How fast the GPU's cores were clocked, on average.",
        of=partial(_mean, "gpu_sm_clock_mhz"),
    ),
    Metric(
        key="gpu_temperature_peak",
        title="GPU temperature, peak",
        short="GPU °C",
        unit="°C",
        larger_is_better=None,
        formula="highest sample of the temperature of the candidate's hottest GPU",
        help="The highest temperature of the GPU.",
        of=partial(_highest, "gpu_temperature_c"),
    ),
    Metric(
        key="power_w",
        title="Power",
        short="power W",
        unit="W",
        larger_is_better=False,
        formula=f"mean power {_ENERGY}",
        help="Electric power on average, of what the source measures: GPUs alone, CPUs alone, or the whole machine.",
        of=_power_w,
    ),
    Metric(
        key="joules_per_output_token",
        title="Energy per output token",
        short="J/token",
        unit="J",
        larger_is_better=False,
        formula=f"mean power * duration / output tokens of all requests, {_ENERGY}",
        help="Electric energy for each output token; idle power during the run is included.",
        of=_joules_per_output_token,
    ),
    Metric(
        key="cost_per_million_output_tokens",
        title="Cost per million output tokens",
        short="$/M output",
        unit="USD",
        larger_is_better=False,
        formula=_COST.format("output"),
        help="Price of a million output tokens at this load, if the whole hour is charged to output tokens.",
        of=partial(_cost, _OUTPUT_RATE),
    ),
    Metric(
        key="cost_per_million_input_tokens",
        title="Cost per million input tokens",
        short="$/M input",
        unit="USD",
        larger_is_better=False,
        formula=_COST.format("input"),
        help="Price of a million input tokens at this load, if the whole hour is charged to input tokens: not to be "
        "added to the price of output tokens.",
        of=partial(_cost, _input_rate),
    ),
    Metric(
        key="cost_per_million_tokens",
        title="Cost per million tokens",
        short="$/M tokens",
        unit="USD",
        larger_is_better=False,
        formula=_COST.format("input + output"),
        help="Price of a million tokens at this load, input and output counted alike.",
        of=partial(_cost, _TOTAL_RATE),
    ),
    Metric(
        key="sampling_cpu_cores",
        title="CPU taken by sampling",
        short="sampling",
        unit="cores",
        larger_is_better=False,
        formula="CPU seconds of the process that samples, and of its power_command / seconds",
        help="What sampling itself took of the machine, in CPU cores.",
        of=partial(_rate, "sampler_cpu_s"),
    ),
)
