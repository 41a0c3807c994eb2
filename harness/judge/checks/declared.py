"""What a candidate's own table in the comparison file declares, and what a server that already ran does not report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from harness.judge.checks.evidence import Evidence, is_attached, pooled_column
from harness.records.manifest import Manifest
from harness.records.run import RunResult

# Keys of a candidate's table that say how it is reached or named, not what it is.
_REACHED = ("name", "engine", "url", "key_env", "ca_file", "served_model", "launch")
_ANY_SETTING = ("args", "env")  # passed through verbatim: they may change any setting
_FOLLOWS = {"kv_tokens": ("context_tokens", "concurrent_sequences")}  # setting -> settings that it follows from
# Settings that follow from the requests: of a server that was not started for them there is nothing to know.
_OF_OUR_REQUESTS = {"connections", "input_tokens", "output_tokens", "sampling"}
# Setting -> what the engine file calls a difference that it cannot avoid.
_SPARE = {"context_tokens": "context", "kv_tokens": "context"}


def declared_keys(manifest: Manifest) -> dict[str, Any]:
    """The keys of the candidate's table, without those that only say how to reach it; `profile.` before settings."""
    found: dict[str, Any] = {}
    for key, value in manifest.candidate.given.items():
        if key == "profile" and isinstance(value, Mapping):
            found |= {f"profile.{name}": one for name, one in value.items()}
        elif key not in _REACHED:
            found[key] = value
    return found


def declares_setting(manifest: Manifest, setting: str) -> bool:
    """Whether its table says that this setting differs from the common profile."""
    keys = declared_keys(manifest)
    names = (setting, *_FOLLOWS.get(setting, ()))
    return any(f"profile.{name}" in keys for name in names) or any(key in keys for key in _ANY_SETTING)


def spare(manifest: Manifest, setting: str, mine: str, others: Sequence[str]) -> str:
    """Why a setting is larger than asked, if the engine file gives a reason; else empty."""
    why = manifest.endpoint.declared.get(_SPARE.get(setting, ""), "")
    try:
        larger = float(mine) > min(float(other) for other in others)
    except ValueError:  # not a number, or nothing to compare with
        return ""
    return why if larger else ""


def declares_weights(manifest: Manifest) -> bool:
    """Whether its own table declares other weights of the model."""
    return manifest.model.weights is not None or "model" in manifest.candidate.given


def by_chat(manifest: Manifest) -> bool:
    """Whether prompts went through a chat template: answers are then to other prompts than those of completions."""
    return manifest.probe is not None and manifest.probe.prompt_as == "chat"


def setting_text(value: Any) -> str:
    """A setting as it is shown and compared: strings as they are, everything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value, order="sorted").decode()


def settings_of(runs: Sequence[RunResult]) -> dict[str, str]:
    """The normalised settings as key -> text; a key whose value changed between runs lists them all."""
    values: dict[str, set[str]] = {}
    for run in runs:
        for key, value in run.manifest.endpoint.settings.items():
            values.setdefault(key, set()).add(setting_text(value))
    return {key: " | ".join(sorted(found)) for key, found in values.items()}


def not_known(evidence: Evidence) -> dict[str, str]:
    """What a server that already ran does not report -> why, if known; empty for other candidates."""
    if not evidence.attached:
        return {}
    endpoint, model = evidence.manifest.endpoint, evidence.manifest.model
    found = {
        name.replace("_", " "): why for run in evidence.runs for name, why in run.manifest.endpoint.unknown.items()
    }
    silent = {
        "version": any(run.manifest.endpoint.version is None for run in evidence.runs),
        "weight dtype": model.weight_dtype is None,
        "kv dtype": model.kv_dtype is None,
        "gpus": endpoint.gpus is None,
        "same machine": endpoint.same_machine is None,
        "its own count of output tokens": _any_missing(evidence, "reported_tokens"),
        "its own count of prompt tokens": _any_missing(evidence, "prompt_tokens"),
        "cached tokens": _any_missing(evidence, "cached_tokens") and not _counted(evidence, "cached_tokens"),
        "ids of its answers": any(not answer_of(run) for run in evidence.runs),
        "whether it serves this model": not model.shown,
    }
    for name, is_missing in silent.items():
        if is_missing:
            found.setdefault(name, "")
    stated = settings_of(evidence.runs)
    asked = {key for runs in _started_peers(evidence) for key in settings_of(runs)}
    for key in sorted(asked - stated.keys() - _OF_OUR_REQUESTS):
        found.setdefault(key.replace("_", " "), "")
    if not stated and not asked and not endpoint.unknown:
        found.setdefault("settings", "")
    return found


def answer_of(run: RunResult) -> tuple[int, ...]:
    """The ids of the greedy answer to the probe; empty if the server does not return them."""
    return run.manifest.probe.answer_ids if run.manifest.probe else ()


def _any_missing(evidence: Evidence, name: str) -> bool:
    return bool(np.isnan(pooled_column(evidence.runs, name)).any())


def _counted(evidence: Evidence, name: str) -> bool:
    """Whether the server's own counter is known in every round."""
    return all(run.manifest.counters.get(name) is not None for run in evidence.runs)


def _started_peers(evidence: Evidence) -> list[Sequence[RunResult]]:
    peers = evidence.peers.runs.values() if evidence.peers else ()
    return [runs for runs in peers if not is_attached(runs[0].manifest)]
