"""Whether the candidates computed in the same precision: PRECISION."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.judge.checks.declared import declares_setting, declares_weights
from harness.judge.checks.evidence import Evidence, Outcome, Peers, is_attached
from harness.records.run import RunResult

SIXTEEN_BITS = {"bfloat16", "float16", "bf16", "fp16", "f16"}


@dataclass(frozen=True, slots=True)
class _Precision:
    """The precision of one candidate over all its rounds; several values if rounds differ."""

    weights: frozenset[str | None]
    kv: frozenset[str | None]
    declared: bool  # other weights than the model's, by its own table
    kv_declared: bool
    attached: bool

    @property
    def text(self) -> str:
        return f"{_joined(self.weights)}/{_joined(self.kv)}"


def precision(evidence: Evidence) -> Outcome | None:
    """With half the bytes per weight, decoding is nearly twice as fast, on any engine."""
    peers = evidence.peers
    if peers is None:
        return None
    table = {name: _of(runs) for name, runs in peers.runs.items()}
    mine = table[evidence.name]
    numbers = {
        "precision": {
            name: {"weight_dtype": _joined(one.weights), "kv_dtype": _joined(one.kv), "declared": one.declared}
            for name, one in table.items()
        }
    }
    text = ", ".join(f"{peers.titles[name]} {one.text}" for name, one in table.items())
    doubts = _doubts(table, mine)
    if doubts:
        return Outcome(
            "doubt",
            f"{doubts[0]} (weights/KV: {text}).",
            numbers,
            "Use the same precision for every candidate, or declare the difference; else the ratio compares "
            "configurations, not engines.",
        )
    notes = _notes(table, mine, peers, evidence.name)
    if notes:
        return Outcome("note", " ".join(notes), numbers)
    return Outcome("ok", f"Same precision, except for declared differences (weights/KV: {text}).", numbers)


def _of(runs: Sequence[RunResult]) -> _Precision:
    manifests = [run.manifest for run in runs]
    return _Precision(
        frozenset(one.model.weight_dtype for one in manifests),
        frozenset(one.model.kv_dtype for one in manifests),
        any(declares_weights(one) or declares_setting(one, "dtype") for one in manifests),
        any(declares_setting(one, "kv_dtype") for one in manifests),
        is_attached(manifests[0]),
    )


def _doubts(table: Mapping[str, _Precision], mine: _Precision) -> list[str]:
    """The doubts about this candidate: undeclared differences, and what is not stated."""
    found = []
    if not mine.attached and (None in mine.weights or None in mine.kv):
        found.append("Precision is not stated")
    if len(mine.weights) > 1 or len(mine.kv) > 1:
        found.append("Precision is not the same in all rounds")
    weights = {value for one in table.values() if not one.declared for value in one.weights} - {None}
    if not mine.declared and len(weights) > 1:
        found.append("Weights differ in precision")
    kv = {value for one in table.values() if not one.kv_declared for value in one.kv} - {None}
    if not mine.kv_declared and len({_bits(value) for value in kv}) > 1:
        found.append("KV caches differ in precision")
    return found


def _notes(table: Mapping[str, _Precision], mine: _Precision, peers: Peers, name: str) -> list[str]:
    manifest = peers.runs[name][0].manifest
    found = []
    common = {value for one in table.values() if not one.declared for value in one.weights} - {None}
    if mine.declared and (declares_weights(manifest) or mine.weights != common):
        weights = manifest.model.weights or manifest.candidate.given.get("model")
        where = f" from {weights}" if weights else ""
        beside = f" instead of {_joined(common)}" if common and common != mine.weights else ""
        found.append(f"Declared: {_joined(mine.weights)} weights{where}{beside}.")
    kept = _reference_kv(table)
    if not (mine.kv & {None}) and kept and mine.kv != kept:
        how = "declared" if mine.kv_declared else "the same number of bits"
        found.append(f"KV cache {_joined(mine.kv)} instead of {_joined(kept)} ({how}).")
    return found


def _reference_kv(table: Mapping[str, _Precision]) -> frozenset[str | None]:
    """The KV precision of the first candidate that states it and does not declare another."""
    stated = (one.kv for one in table.values() if not one.kv_declared and None not in one.kv)
    return next(stated, frozenset())


def _bits(dtype: str | None) -> str | None:
    return "16 bits" if dtype in SIXTEEN_BITS else dtype


def _joined(values: frozenset[str | None] | set[str | None] | set[str]) -> str:
    return " | ".join(sorted(value or "not known" for value in values)) or "not known"
