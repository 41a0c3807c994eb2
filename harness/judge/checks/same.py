"""Whether a candidate was the same in all rounds: SAME_ENGINE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.judge.checks.declared import setting_text
from harness.judge.checks.evidence import Evidence, Outcome
from harness.records.manifest import EndpointFacts, MachineFacts, Manifest

MEMORY_SLACK = 0.02  # a kernel's own share of the memory may change with a restart
SETTING_SLACK = 0.05  # a number that an engine derives from the memory it finds free, such as its room for the KV cache


def same_engine(evidence: Evidence) -> Outcome:
    """A candidate is started again for each round: a mean over two versions, two precisions or two machines describes
    neither."""
    manifests = [run.manifest for run in evidence.everywhere or evidence.runs]
    found = {name: list(dict.fromkeys(values)) for name, values in _identity(manifests).items()}
    changed = {name: values for name, values in found.items() if len(set(values) - {None}) > 1}
    numbers: dict[str, Any] = {
        name: [str(value) for value in values if value is not None] for name, values in found.items()
    }
    numbers["settings_changed"] = settings = _settings_changed(manifests)
    machines = _machines_differ(manifests, _others(evidence))
    if changed or machines:
        what = "; ".join([f"{name} {' and '.join(map(str, values))}" for name, values in changed.items()] + machines)
        return Outcome(
            "invalid",
            f"Not the same engine in all rounds: {what}.",
            numbers,
            "Pin the version or the image's digest, and measure again on one machine.",
        )
    if settings:
        what = "; ".join(f"{name} {' and '.join(values)}" for name, values in settings.items())
        advice = "Fix the setting in the profile or in the candidate's arguments, and measure again."
        return Outcome("doubt", f"Settings are not the same in all rounds: {what}.", numbers, advice)
    return _known(evidence, manifests[0].endpoint, found, numbers)


def _known(
    evidence: Evidence, endpoint: EndpointFacts, found: Mapping[str, Sequence[str | None]], numbers: dict[str, Any]
) -> Outcome:
    """The verdict on a candidate that did not change: is it known what it is?"""
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
    started = [one for one in endpoints if one.launch != "attach"]
    return {
        "version": [one.version for one in endpoints],
        "image": [one.image.digest if one.image else None for one in endpoints],
        "device": [one.device for one in endpoints],
        "launch": [one.launch for one in endpoints],
        "GPUs": [None if one.gpus is None else str(one.gpus) for one in endpoints],
        "weights in": [one.model.weight_dtype for one in manifests],
        "KV cache in": [one.model.kv_dtype for one in manifests],
        **({"weights": weights} if any(weights) else {}),
        "launch line": _only_changes([" ".join(one.launch_line) for one in started]),
        "environment": _only_changes([" ".join(f"{k}={v}" for k, v in sorted(one.env.items())) for one in started]),
    }


def _only_changes(texts: Sequence[str]) -> list[str | None]:
    """Of long texts only the words that not all have; a missing text (older results) is not known."""
    stated = [text.split() for text in texts if text]
    common = set.intersection(*map(set, stated)) if stated else set()
    return [" ".join(word for word in words if word not in common) or "the same" for words in stated]


def _settings_changed(manifests: Iterable[Manifest]) -> dict[str, list[str]]:
    """Setting -> its values, of those that are not the same in all runs."""
    values: dict[str, list[Any]] = {}
    for one in manifests:
        for name, value in one.endpoint.settings.items():
            if value is not None and value not in values.setdefault(name, []):
                values[name].append(value)
    return {name: [setting_text(v) for v in found] for name, found in values.items() if not _alike(found)}


def _alike(values: Sequence[Any]) -> bool:
    """Whether they are one value, or numbers that differ by little."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return bool(max(values) - min(values) <= SETTING_SLACK * abs(max(values)))
    return len(values) < 2


def _others(evidence: Evidence) -> list[Manifest]:
    peers = evidence.peers.runs.values() if evidence.peers else ()
    return [run.manifest for runs in peers for run in runs]


def _machines_differ(mine: Sequence[Manifest], others: Sequence[Manifest]) -> list[str]:
    """What is not the same of a machine with one id, in this candidate's runs and the others' at this load: a virtual
    machine that was given more cores keeps its id."""
    own = {one.machine.id for one in mine}
    machines = [one.machine for one in (*mine, *others) if one.machine.id in own]
    found = []
    for name, of in _FACTS.items():
        values = list(dict.fromkeys(value for one in machines if (value := of(one)) is not None))
        if len(values) > 1:
            found.append(f"{name} {' and '.join(map(str, values))}")
    memory = [one.memory_bytes for one in machines if one.memory_bytes]
    if memory and max(memory) - min(memory) > MEMORY_SLACK * max(memory):
        found.append(f"memory {min(memory) / 2**30:.1f} and {max(memory) / 2**30:.1f} GiB")
    return found


def _cores(machine: MachineFacts) -> str | None:
    return None if machine.cores is None else f"{machine.cores} cores"


def _gpus(machine: MachineFacts) -> str | None:
    return ", ".join(machine.gpus) or None


def _cpu(machine: MachineFacts) -> str | None:
    return machine.cpu


_FACTS = {"machine with": _cores, "CPU": _cpu, "GPUs of the machine": _gpus}


def _one_text(endpoint: EndpointFacts) -> str:
    image = f", image {endpoint.image.digest[:19]}" if endpoint.image else ""
    return f"One version in all rounds: {endpoint.version or 'not known'}{image}."
