"""Checks that need every engine of a load point: same lengths, settings, precision and answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.judge.checks.evidence import Check, pooled_column
from harness.records.metrics import column
from harness.records.run import RunResult


@dataclass(frozen=True, slots=True)
class Peers:
    """The runs of each real engine at one load point; null engines are left out before."""

    runs: Mapping[str, Sequence[RunResult]]
    reference: str

    def title(self, engine: str) -> str:
        """The engine's name as readers know it."""
        return self.runs[engine][0].manifest.engine_title


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two greedy answers to the same probe are equal, as fractions of the longer answer:
    `leading` up to the first difference, `positions` place by place. `tokens` is the longer length."""

    leading: float
    positions: float
    tokens: int


def length_parity(peers: Peers, engine: str) -> Check:
    """Invalid for the engines that answer at another length than asked while others do not: only the
    comparison with those is void."""
    mean = {name: _mean_tokens(runs) for name, runs in peers.runs.items()}
    # An engine that answered nothing has no length: it must not void the comparison of the others.
    lengths = {name: found for name, runs in peers.runs.items() if (found := _lengths(runs)).request.size}
    if engine not in lengths:
        return Check("LENGTH_PARITY", "doubt", {}, "No request came back: no length to compare.", "")
    common = reduce(np.intersect1d, (found.request for found in lengths.values()))
    seen = np.array([found.seen[np.searchsorted(found.request, common)] for found in lengths.values()])
    differ = int((seen != seen[0]).any(axis=0).sum())
    numbers = {"requests_in_common": len(common), "differ": differ, "mean_output_tokens": mean}
    if not differ:
        return Check("LENGTH_PARITY", "ok", numbers, "Every engine answered at the same lengths.", "")
    text = (
        f"Output lengths differ between the engines in {differ} of {len(common)} requests: "
        + ", ".join(f"{peers.title(name)} {value:.4g}" for name, value in mean.items() if value is not None)
        + " tokens on average"
    )
    if (lengths[engine].seen == lengths[engine].asked).all():
        return Check("LENGTH_PARITY", "ok", numbers, f"{text}; this engine answered as asked.", "")
    return Check(
        "LENGTH_PARITY",
        "invalid",
        numbers,
        f"{text}.",
        "Force the length in the engine's dialect; throughput at other lengths is another load.",
    )


def config_parity(peers: Peers, engine: str) -> Check:
    """Settings that differ between engines, by name; free text under "declared" is not compared."""
    tables = {name: settings_of(runs) for name, runs in peers.runs.items()}
    keys = sorted({key for table in tables.values() for key in table})
    differ = {
        key: {name: table.get(key, "not stated") for name, table in tables.items()}
        for key in keys
        if len({table.get(key, "not stated") for table in tables.values()}) > 1
    }
    if not differ:
        return Check("CONFIG_PARITY", "ok", {"differ": {}}, "Stated settings are equal across engines.", "")
    text = "; ".join(
        f"{key} (" + ", ".join(f"{peers.title(name)} {value}" for name, value in values.items()) + ")"
        for key, values in differ.items()
    )
    return Check(
        "CONFIG_PARITY",
        "doubt",
        {"differ": differ},
        f"Settings differ: {text}.",
        "Make them equal in the profile, or say in the engine file why they cannot be.",
    )


def precision(peers: Peers, engine: str) -> Check:
    """Half the bytes per weight is nearly twice the decode speed: not the engine's doing."""
    table = {
        name: {key: runs[0].manifest.model.get(key) for key in ("weight_dtype", "kv_dtype")}
        for name, runs in peers.runs.items()
    }
    values = [tuple(row.values()) for row in table.values()]
    numbers = {"precision": table}
    text = ", ".join(f"{peers.title(name)} {row['weight_dtype']}/{row['kv_dtype']}" for name, row in table.items())
    if any(value is None for row in values for value in row):
        return Check(
            "PRECISION",
            "doubt",
            numbers,
            f"Precision is not stated for all engines (weights/KV: {text}).",
            "State weight_dtype and kv_dtype for every engine.",
        )
    if len(set(values)) > 1:
        return Check(
            "PRECISION",
            "doubt",
            numbers,
            f"Weights and KV cache differ in precision (weights/KV: {text}).",
            "Serve the same precision with every engine, or read the ratio as one of configurations.",
        )
    return Check("PRECISION", "ok", numbers, f"Same precision everywhere (weights/KV: {text}).", "")


def answers(peers: Peers, engine: str) -> Check:
    """Greedy answers to the probe against the reference engine's: the worst round counts."""
    if engine == peers.reference:
        return Check("ANSWERS", "ok", {}, "This is the reference engine.", "")
    found = agreement(peers.runs[engine], peers.runs.get(peers.reference, ()))
    if found is None:
        return Check(
            "ANSWERS",
            "doubt",
            {},
            f"No probe answer to compare with {peers.reference}.",
            "Keep the probe's answer ids in the manifest.",
        )
    numbers = {"leading": found.leading, "positions": found.positions, "tokens": found.tokens}
    text = (
        f"greedy answer against {peers.reference}: {found.leading:.0%} equal up to the first difference, "
        f"{found.positions:.0%} by position, of {found.tokens} tokens"
    )
    if found.leading == 1.0:
        return Check("ANSWERS", "ok", numbers, f"Same answer ({text}).", "")
    return Check(
        "ANSWERS",
        "doubt",
        numbers,
        f"Not the same answer ({text}).",
        "Rounding flips near ties and one flip changes the rest; a difference in the first few tokens "
        "points to other weights, another template or another precision.",
    )


PARITY_CHECKS: tuple[Callable[[Peers, str], Check], ...] = (length_parity, config_parity, precision, answers)


def agreement(mine: Sequence[RunResult], theirs: Sequence[RunResult]) -> Agreement | None:
    """The worst agreement over the rounds that both have a probe answer for; null without one."""
    reference = {run.manifest.round: run.manifest.probe.get("answer_ids") for run in theirs}
    found = [
        greedy_agreement(ids, other)
        for run in mine
        if (ids := run.manifest.probe.get("answer_ids")) and (other := reference.get(run.manifest.round))
    ]
    return min(found, key=lambda one: (one.leading, one.positions), default=None)


def greedy_agreement(mine: Sequence[int], theirs: Sequence[int]) -> Agreement:
    """Of two answers, neither empty. A shorter answer differs where it has no token."""
    tokens = max(len(mine), len(theirs))
    equal = [a == b for a, b in zip(mine, theirs, strict=False)]
    leading = equal.index(False) if False in equal else len(equal)
    return Agreement(leading / tokens, sum(equal) / tokens, tokens)


def settings_of(runs: Sequence[RunResult]) -> dict[str, str]:
    """The normalised settings as key -> JSON text, without "declared"; a key whose value changed between
    runs lists them all."""
    values: dict[str, set[str]] = {}
    for run in runs:
        for key, value in run.manifest.settings.items():
            if key != "declared":
                values.setdefault(key, set()).add(setting_text(value))
    return {key: " | ".join(sorted(found)) for key, found in values.items()}


def setting_text(value: Any) -> str:
    """A setting as it is shown and compared: strings as they are, everything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value, order="sorted").decode()


@dataclass(frozen=True, slots=True)
class Lengths:
    """The ok requests of an engine, ascending by `request`, which is round and index in one number. Output
    tokens seen and asked. Shapes (ok requests,)."""

    request: NDArray[np.int64]
    seen: NDArray[np.int64]
    asked: NDArray[np.int64]


def _lengths(runs: Sequence[RunResult]) -> Lengths:
    request = np.concatenate([(run.manifest.round << 32) + column(run, "index").astype(np.int64) for run in runs])
    order = np.argsort(request)
    seen, asked = (pooled_column(runs, name).astype(np.int64) for name in ("output_tokens", "asked_tokens"))
    return Lengths(request[order], seen[order], asked[order])


def _mean_tokens(runs: Sequence[RunResult]) -> float | None:
    tokens = pooled_column(runs, "output_tokens")
    return float(np.mean(tokens)) if tokens.size else None
