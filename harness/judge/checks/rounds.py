"""Whether the rounds measured the same thing: DRIFT, SAME_ENGINE."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from harness.judge.checks.evidence import Evidence, Outcome
from harness.records.manifest import EndpointFacts, Manifest

DRIFT_DOUBT = 0.20  # (max - min) / mean over rounds


def drift(evidence: Evidence) -> Outcome:
    """All rounds have the same amount of work: if they disagree, their mean describes none of them."""
    values = [value for value in evidence.metrics["output_throughput"].per_round if value is not None]
    numbers: dict[str, Any] = {"rounds": len(values), "spread": None, "last_over_first": None}
    if len(values) < 2:
        return Outcome(
            "doubt",
            f"{len(values)} round: it is not known how much rounds differ.",
            numbers,
            "Measure three rounds or more.",
        )
    spread = (max(values) - min(values)) / float(np.mean(values))
    numbers |= {"spread": spread, "last_over_first": values[-1] / values[0]}
    if spread <= DRIFT_DOUBT:
        return Outcome("ok", f"Throughput of the rounds agrees within {spread:.1%} of the mean.", numbers)
    steady = all(b > a for a, b in pairwise(values)) or all(b < a for a, b in pairwise(values))
    trend = f", {'rising' if values[-1] > values[0] else 'falling'} from round to round" if steady else ""
    return Outcome(
        "doubt",
        f"Output throughput differs between rounds by {spread:.0%} of the mean{trend}.",
        numbers,
        "Look for other work on the machine, thermal limits or an engine that was not warm.",
    )


def same_engine(evidence: Evidence) -> Outcome:
    """A candidate is started again for each round: a mean over two versions describes neither."""
    manifests = [run.manifest for run in evidence.everywhere or evidence.runs]
    found = {name: list(dict.fromkeys(values)) for name, values in _identity(manifests).items()}
    changed = {name: values for name, values in found.items() if len(set(values) - {None}) > 1}
    numbers = {name: [str(value) for value in values if value is not None] for name, values in found.items()}
    if changed:
        what = "; ".join(f"{name} {' and '.join(map(str, values))}" for name, values in changed.items())
        return Outcome(
            "invalid",
            f"Not the same engine in all rounds: {what}.",
            numbers,
            "Pin the version or the image's digest, and measure again.",
        )
    endpoint = manifests[0].endpoint
    if None in found["version"] and not evidence.attached:
        return Outcome("doubt", "The version of the engine is not known.", numbers, "Record it in the engine file.")
    if endpoint.launch == "compose" and None in found["image"]:
        return Outcome("doubt", "The digest of the image is not known.", numbers, "Check it with docker image inspect.")
    tested = endpoint.tested_version
    if tested is not None and endpoint.version is not None and endpoint.version != tested:
        text = f"{endpoint.version}, not the version that the engine file was tested with ({tested})."
        return Outcome("note", text, {**numbers, "tested": tested})
    return Outcome("ok", _one_text(endpoint), numbers)


def _identity(manifests: list[Manifest]) -> Mapping[str, list[str | None]]:
    endpoints = [one.endpoint for one in manifests]
    weights = [one.model.weights_digest for one in manifests]  # only of candidates that bring their own
    return {
        "version": [one.version for one in endpoints],
        "image": [one.image.digest if one.image else None for one in endpoints],
        "device": [one.device for one in endpoints],
        **({"weights": weights} if any(weights) else {}),
    }


def _one_text(endpoint: EndpointFacts) -> str:
    image = f", image {endpoint.image.digest[:19]}" if endpoint.image else ""
    return f"One version in all rounds: {endpoint.version or 'not known'}{image}."
