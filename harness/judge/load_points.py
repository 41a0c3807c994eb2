"""What was asked at a load point, in values for the axis of a chart and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from harness.records.metrics import rate_of
from harness.records.run import Manifest, RunResult

Kind = Literal["closed", "open", "batches", "offline", "trace"]
OPEN: tuple[Kind, ...] = ("open", "trace")  # sent by the clock


@dataclass(frozen=True, slots=True)
class LoadPointSummary:
    """What was asked at one load point. `rate` is in requests/s: the mean asked for, of a trace what its times
    give. `variant` says how an open loop differs from plain Poisson arrivals; empty where it does not.
    Token counts are null where a trace gives each request its own."""

    name: str
    description: str
    concurrency: int | None
    in_flight: int
    requests: int
    input_tokens: int | None
    output_tokens: int | None
    kind: Kind | None = None  # null only as an argument: it then follows from the concurrency
    rate: float | None = None
    variant: str = ""

    def __post_init__(self) -> None:
        # Comparisons stored before there were other loads say only the concurrency.
        if self.kind is None:
            object.__setattr__(self, "kind", "offline" if self.concurrency is None else "closed")

    @property
    def open_loop(self) -> bool:
        """Whether requests were sent by the clock, answered or not."""
        return self.kind in OPEN


def load_point_summary(point: str, runs: Sequence[RunResult]) -> LoadPointSummary:
    """Of the runs that there are of it."""
    mine = [run for run in runs if run.manifest.load_point == point]
    manifest = mine[0].manifest
    kind = kind_of(manifest)
    offered = [rate for run in mine if (rate := rate_of(run, "scheduled_s"))]
    load = manifest.load
    wanted = (load["rate"] + (load.get("ramp_to") or load["rate"])) / 2 if load.get("rate") else None
    measured = float(np.mean(offered)) if offered else None
    return LoadPointSummary(
        name=point,
        description=describe(manifest, kind, measured),
        concurrency=manifest.concurrency,
        in_flight=manifest.in_flight,
        requests=manifest.requests,
        input_tokens=manifest.input_tokens,
        output_tokens=manifest.output_tokens,
        kind=kind,
        rate=(wanted or measured) if kind in OPEN else None,
        variant=_variant(manifest) if kind in OPEN else "",
    )


def kind_of(manifest: Manifest) -> Kind:
    """How the requests of a run were let go. Runs that do not say are closed loops or offline batches."""
    load = manifest.load
    if load.get("arrivals") == "trace":
        return "trace"
    if load.get("rate") is not None:
        return "open"
    if load.get("batch") is not None:
        return "batches"
    return "offline" if manifest.concurrency is None else "closed"


def describe(manifest: Manifest, kind: Kind, rate: float | None = None) -> str:
    """The load in words; `rate` is what a trace's times give."""
    load = manifest.load
    if kind == "closed":
        text = f"closed loop of {manifest.concurrency}"
        if load.get("ramp_s"):
            text += f" opening over {load['ramp_s']:g} s"
    elif kind == "offline":
        text = "offline batch"
    elif kind == "batches":
        text = f"static batches of {load['batch']}"
    else:
        text = _arrivals_text(load, rate)
        if manifest.concurrency is not None:
            text += f", at most {manifest.concurrency} in flight"
    text += f", {manifest.requests} requests"
    if load.get("duration_s") is not None:
        text += f" in {load['duration_s']:g} s" if kind in OPEN else f" at most, sending for {load['duration_s']:g} s"
    if load.get("cancel_fraction"):
        text += f", {load['cancel_fraction']:.0%} given up after {load.get('cancel_after_s', 0.0):g} s"
    return text


def _arrivals_text(load: Mapping[str, Any], rate: float | None) -> str:
    wanted = load.get("rate")
    if load.get("arrivals") == "trace":
        if wanted is not None:
            return f"the trace's times, drawn out to {wanted:g} requests/s"
        return "the trace's times" + (f" ({rate:.3g} requests/s)" if rate else "")
    names = {"constant": "even arrivals", "gamma": f"gamma arrivals (shape {load.get('burstiness', 1.0):g})"}
    name = names.get(str(load.get("arrivals")), "Poisson arrivals")
    if load.get("ramp_to") is not None:
        return f"{name} from {wanted:g} to {load['ramp_to']:g} requests/s"
    return f"{name} at {wanted:g} requests/s"


def _variant(manifest: Manifest) -> str:
    """What sets an open loop apart from plain Poisson arrivals at its rate: only alike ones share a line."""
    load = manifest.load
    ramp = load.get("ramp_to")
    parts = [] if ramp is None else [f"{load['rate']:g} to {ramp:g}"]
    parts += [f"gamma {load.get('burstiness', 1.0):g}"] if load.get("arrivals") == "gamma" else []
    parts += [str(load["arrivals"])] if load.get("arrivals") in ("constant", "trace") else []
    parts += [f"cap {manifest.concurrency}"] if manifest.concurrency is not None else []
    parts += ["given up"] if load.get("cancel_fraction") else []
    return ", ".join(parts)
