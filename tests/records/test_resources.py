"""What a run took of the machine, and what it cost, against numbers added up by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from harness.records.metrics import BY_KEY, measure
from harness.records.resources import RESOURCES, energy_source
from harness.records.run import RunResult
from harness.records.samples import Series, integral, series_of, write_samples
from tests.invented import changed
from tests.invented_runs import Run

Rows = Sequence[tuple[float, str, float]]


def sampled(run: Run, rows: Rows, duration_s: float = 2.0) -> RunResult:
    """A run of 4 requests of 5 tokens with these samples."""
    made = run(duration_s=duration_s)
    write_samples(made.folder, rows)
    return made


def rows(name: str, *points: tuple[float, float]) -> list[tuple[float, str, float]]:
    return [(at, name, value) for at, value in points]


def test_a_run_without_samples_knows_none_of_them(run: Run) -> None:
    made = run()
    assert {metric.key: metric.of(made) for metric in RESOURCES} == dict.fromkeys(m.key for m in RESOURCES)
    assert energy_source(made) is None
    (made.folder / "samples.parquet").write_bytes(b"not parquet")
    assert series_of(made.folder) == {}


def test_cores_and_peaks(run: Run) -> None:
    found = measure(
        sampled(
            run,
            [
                *rows("engine_cpu_s", (0.0, 10.0), (1.0, 11.0), (2.0, 13.0)),
                *rows("engine_rss_bytes", (0.0, 100.0), (1.0, 300.0), (2.0, 200.0)),
                *rows("gpu_memory_bytes", (2.0, 7.0), (0.0, 5.0)),  # rows in any order
                *rows("gpu_temperature_c", (0.0, 40.0), (2.0, 70.0)),
                *rows("gpu_sm_clock_mhz", (0.0, 1000.0), (2.0, 2000.0)),
                *rows("sampler_cpu_s", (0.5, 0.10), (1.5, 0.12)),
            ],
        )
    )
    assert found["engine_cpu_cores"] == 1.5
    assert (found["engine_memory_peak"], found["gpu_memory_peak"], found["gpu_temperature_peak"]) == (300, 7, 70)
    assert found["gpu_sm_clock"] == 1500
    assert found["sampling_cpu_cores"] == pytest.approx(0.02)


def test_means_are_over_time_and_not_over_samples(run: Run) -> None:
    """Three samples within the first tenth of a second must not outweigh the rest of the run."""
    busy = rows("gpu_busy_percent", (0.0, 0.0), (0.05, 0.0), (0.1, 0.0), (2.0, 100.0))
    assert measure(sampled(run, busy))["gpu_busy"] == pytest.approx(0.475)


def test_joules_for_each_output_token(run: Run) -> None:
    """100 W rising to 300 W over 2 s are 400 J; 20 tokens."""
    made = sampled(run, rows("gpu_power_w", (0.0, 100.0), (2.0, 300.0)))
    found = measure(made)
    assert (found["power_w"], found["joules_per_output_token"]) == (200.0, 20.0)
    assert (source := energy_source(made)) and source.title == "the GPUs' power"


@pytest.mark.parametrize(
    ("series", "watts"),
    [
        ({"cpu_energy_j": ((0.0, 1000.0), (2.0, 1060.0))}, 30.0),
        ({"cpu_energy_j": ((0.0, 1000.0), (2.0, 1060.0)), "gpu_power_w": ((0.0, 50.0), (2.0, 50.0))}, 50.0),
        ({"gpu_energy_j": ((0.0, 7.0), (2.0, 127.0)), "gpu_power_w": ((0.0, 50.0), (2.0, 50.0))}, 60.0),
        # Sampled only within the run: what it was before and after is what it was at the first and last sample.
        ({"command_power_w": ((0.5, 70.0), (1.5, 90.0)), "gpu_energy_j": ((0.0, 0.0), (2.0, 120.0))}, 80.0),
    ],
)
def test_one_source_of_energy_is_used_alone(
    run: Run, series: dict[str, tuple[tuple[float, float], ...]], watts: float
) -> None:
    made = sampled(run, [row for name, points in series.items() for row in rows(name, *points)])
    assert measure(made)["power_w"] == watts
    assert measure(made)["joules_per_output_token"] == watts * 2 / 20


def test_a_counter_that_was_reset_or_read_once_tells_nothing(run: Run) -> None:
    assert measure(sampled(run, rows("cpu_energy_j", (0.0, 50.0), (2.0, 10.0))))["power_w"] is None
    assert measure(sampled(run, rows("engine_cpu_s", (1.0, 50.0))))["engine_cpu_cores"] is None


def test_a_run_that_is_written_again_is_read_again(run: Run) -> None:
    made = sampled(run, rows("engine_rss_bytes", (0.0, 1.0)))
    assert measure(made)["engine_memory_peak"] == 1
    write_samples(made.folder, rows("engine_rss_bytes", (0.0, 2.0), (1.0, 3.0)))
    assert measure(made)["engine_memory_peak"] == 3


def test_an_integral_ends_with_the_run() -> None:
    found = Series(np.array([0.0, 1.0, 3.0]), np.array([0.0, 2.0, 6.0]))
    assert integral(found, 2.0) == 1.0 + 3.0


def test_money(run: Run) -> None:
    """3.60 USD/h are 0.001 USD a second, charged whole to each kind of token."""
    made = run()
    priced = replace(made, manifest=changed(made.manifest, candidate__price_usd_per_hour=3.6))
    found, unpriced = measure(priced), measure(made)
    for key, kind in (
        ("cost_per_million_output_tokens", "output_throughput"),
        ("cost_per_million_tokens", "total_throughput"),
    ):
        rate = found[kind]
        assert rate is not None and found[key] == pytest.approx(0.001 / rate * 1e6)
        assert unpriced[key] is None
    each = [found[f"cost_per_million_{kind}tokens"] for kind in ("output_", "input_", "")]
    assert all(each)
    output, inputs, both = (one or 0.0 for one in each)
    assert 1 / output + 1 / inputs == pytest.approx(1 / both)
    assert output / inputs == pytest.approx(16 / 5)


def test_every_entry_is_a_metric_with_its_help() -> None:
    for metric in RESOURCES:
        assert BY_KEY[metric.key] is metric
        assert metric.help.endswith(".") and metric.formula and metric.short
