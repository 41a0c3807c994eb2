"""The table of resources, and what stands under it."""

from __future__ import annotations

from pathlib import Path

from harness.judge.comparison import Comparison, compare
from harness.records.comparison_folder import read_comparison
from harness.records.prices import Prices, priced
from harness.records.samples import write_samples
from harness.report.resource_lines import resource_lines
from harness.report.table import markdown
from tests.invented import write_comparison

POWER = {"alpha": "gpu_power_w", "beta": "gpu_power_w"}


def made(folder: Path, prices: Prices | None = None, power: dict[str, str] = POWER) -> Comparison:
    path = write_comparison(folder)
    for run in path.glob("runs/*/*/*/manifest.json"):
        name = power[run.parts[-4]]
        rows = [(t, series, 100 + t) for t in (0.0, 1.0) for series in (name, "engine_rss_bytes")]
        write_samples(run.parent, [*rows, (0.0, "sampler_cpu_s", 0.0), (1.0, "sampler_cpu_s", 0.004)])
    campaign, runs = read_comparison(path)
    return compare(priced(runs, prices, "prices") if prices else runs, campaign)


def test_what_was_measured_by_what_and_what_sampling_took(tmp_path: Path) -> None:
    comparison = made(tmp_path / "one")
    assert resource_lines(comparison) == [
        "Power and joules are those of the GPUs' power; idle power is included.",
        "Sampling took at most 0.4 % of one CPU core.",
    ]
    table = markdown(comparison)
    assert "| power W | J/token |" in table and "- Sampling took at most 0.4 % of one CPU core." in table


def test_joules_from_different_sources_are_not_comparable(tmp_path: Path) -> None:
    line = resource_lines(made(tmp_path / "two", power={"alpha": "gpu_power_w", "beta": "command_power_w"}))[0]
    assert line.startswith("Power and joules are not comparable") and "Beta: power_command" in line


def test_prices_are_told_with_what_they_mean(tmp_path: Path) -> None:
    comparison = made(tmp_path / "three", Prices(2.5, {"beta": 4.0}))
    line = resource_lines(comparison)[-1]
    assert line.startswith("Prices: Alpha 2.50 USD an hour, Beta 4.00 USD an hour. ") and "not to be added" in line
    assert "| $/M output | $/M input | $/M tokens |" in markdown(comparison)


def test_without_samples_and_prices_there_is_nothing_to_say(tmp_path: Path) -> None:
    campaign, runs = read_comparison(write_comparison(tmp_path / "none"))
    assert resource_lines(compare(runs, campaign)) == []
