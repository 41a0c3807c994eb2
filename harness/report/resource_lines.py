"""What stands under the table of resources: where joules come from, what sampling took, how to read a price."""

from __future__ import annotations

from harness.judge.comparison import Comparison
from harness.report.text import number


def resource_lines(comparison: Comparison) -> list[str]:
    """One line for each, without those that there is nothing to say about."""
    return [line for line in (_energy(comparison), _sampling(comparison), _money(comparison)) if line]


def _energy(comparison: Comparison) -> str:
    found: dict[str, list[str]] = {}
    for one in comparison.candidates:
        if one.energy_from:
            found.setdefault(one.energy_from, []).append(one.title)
    if not found:
        return ""
    if len(found) == 1:
        return f"Power and joules are those of {next(iter(found))}; idle power is included."
    parts = "; ".join(f"{', '.join(titles)}: {source}" for source, titles in found.items())
    return f"Power and joules are not comparable, because they come from different sources: {parts}."


def _sampling(comparison: Comparison) -> str:
    estimates = [cell.metrics.get("sampling_cpu_cores") for cell in comparison.cells]
    cores = [one.mean for one in estimates if one is not None and one.mean is not None]
    return f"Sampling took at most {number(100 * max(cores))} % of one CPU core." if cores else ""


def _money(comparison: Comparison) -> str:
    prices = {one.title: one.price_usd_per_hour for one in comparison.candidates if one.price_usd_per_hour is not None}
    if not prices:
        return ""
    said = ", ".join(f"{title} {price:,.2f} USD an hour" for title, price in prices.items())
    return (
        f"Prices: {said}. The price of input tokens and that of output tokens each charge the whole hour to that kind "
        "of token: they are not to be added."
    )
