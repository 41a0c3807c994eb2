"""What candidates cost by the hour, by a price file: for runs without a price, or with an old one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from harness.errors import HarnessError, unknown
from harness.records.run import RunResult
from harness.visible import visible
from harness.workload.given_files import read_toml
from harness.workload.loads import check_positive


@dataclass(frozen=True, slots=True)
class Prices:
    """The content of a price file: USD an hour for every candidate, and for some by their names."""

    usd_per_hour: float | None = None
    candidates: Mapping[str, float] = field(default_factory=dict)

    def of(self, candidate: str) -> float | None:
        """USD an hour of one candidate; None if the file does not say."""
        return self.candidates.get(candidate, self.usd_per_hour)


def read_prices(path: Path) -> Prices:
    """Reads a price file. Raises HarnessError for one that cannot be read, unknown keys and prices out of range."""
    data = read_toml(path, "the price file")
    for key in data:
        if key not in ("usd_per_hour", "candidates"):
            raise unknown("key", key, ("usd_per_hour", "candidates"), str(path))
    try:
        prices = msgspec.convert(data, Prices)
    except msgspec.ValidationError as problem:
        raise HarnessError(f"{path}: {visible(str(problem))}") from None
    if prices.usd_per_hour is None and not prices.candidates:
        raise HarnessError(f"{path}: no price; write usd_per_hour = 2.99, or a name and its price under [candidates].")
    for key, price in {"usd_per_hour": prices.usd_per_hour, **prices.candidates}.items():
        if price is not None:
            check_positive(key, price, str(path))
    return prices


def priced(runs: Sequence[RunResult], prices: Prices, where: str) -> list[RunResult]:
    """The runs with the file's price where it has one; otherwise with their own. Raises HarnessError for a price of a
    candidate that was not measured."""
    names = {run.manifest.candidate.name for run in runs}
    for name in prices.candidates:
        if name not in names:
            raise unknown("candidate", name, names, where)
    return [_with_price(run, prices.of(run.manifest.candidate.name)) for run in runs]


def _with_price(run: RunResult, price: float | None) -> RunResult:
    if price is None:
        return run
    candidate = replace(run.manifest.candidate, price_usd_per_hour=price)
    return replace(run, manifest=replace(run.manifest, candidate=candidate))
