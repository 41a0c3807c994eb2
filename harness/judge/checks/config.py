"""Whether the candidates of a load have the same settings: CONFIG_PARITY, GPUS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.judge.checks.declared import (
    declared_keys,
    declares_setting,
    not_known,
    setting_text,
    settings_of,
    spare,
)
from harness.judge.checks.evidence import Evidence, Outcome, Peers, is_attached
from harness.records.run import RunResult

NOT_STATED = "not stated"
# Keys of a candidate's table that change its requests, in words.
_WORDS = {
    "fields": "requests with the fields",
    "drop": "requests without",
    "length_field": "the length asked for in",
    "prompt": "prompts as",
}
_OTHER_CHECKS = ("dtype", "kv_dtype", "gpus")  # checked by PRECISION and GPUS


@dataclass(slots=True)
class _Differences:
    """Setting -> candidate -> value, for what differs at a load."""

    silent: dict[str, dict[str, str]] = field(default_factory=dict)  # nobody declares it
    declared: dict[str, dict[str, str]] = field(default_factory=dict)  # by this candidate
    spare: dict[str, str] = field(default_factory=dict)  # setting -> why this candidate has more than asked


def config_parity(evidence: Evidence) -> Outcome | None:
    """Settings that differ: a doubt if undeclared, a note if the candidate's own table declares them. What a server
    that already ran does not report is one note, here and in no other check: every such server has it."""
    unknown = not_known(evidence)
    peers = evidence.peers
    found = _differences(peers, evidence.name) if peers else _Differences()
    notes = _notes(evidence, found) + ([_unknown_text(evidence, unknown)] if unknown else [])
    if peers is None and not notes:
        return None
    numbers = {"differ": found.silent, "declared": found.declared, "not_known": unknown}
    if peers and found.silent:
        return Outcome(
            "doubt",
            " ".join([f"Settings differ: {_side_by_side(found.silent, peers.titles)}.", *notes]),
            numbers,
            "Make them equal in the profile, or declare the difference in the candidate's own table.",
        )
    if notes:
        advice = "To know more, ask whoever runs the server, or let the harness start it." if unknown else ""
        return Outcome("note", " ".join(notes), numbers, advice)
    others = ", except those that candidates declare" if peers and _anyone_declares(peers) else ""
    return Outcome("ok", f"Stated settings are the same for all candidates{others}.", numbers)


def _differences(peers: Peers, name: str) -> _Differences:
    tables = {one: {**settings_of(runs), **_start_of(runs)} for one, runs in peers.runs.items()}
    manifests = {one: runs[0].manifest for one, runs in peers.runs.items()}
    keys = sorted({key for table in tables.values() for key in table}.difference(_OTHER_CHECKS))
    found = _Differences()
    for key in keys:
        # What a server that already ran does not report is not known: neither equal nor different.
        values = {
            one: table.get(key, NOT_STATED)
            for one, table in tables.items()
            if key in table or not is_attached(manifests[one])
        }
        if len(set(values.values())) < 2:
            continue
        by_table = {one for one in values if declares_setting(manifests[one], key)}
        by_engine = {
            one: why
            for one in values.keys() - by_table
            if (why := spare(manifests[one], key, values[one], [v for other, v in values.items() if other != one]))
        }
        rest = {one: value for one, value in values.items() if one not in by_table and one not in by_engine}
        if name in rest and len(set(rest.values())) > 1:
            found.silent[key] = rest
        if name in by_table and values[name] not in (rest or values).values():
            found.declared[key] = values
        if name in by_engine:
            found.spare[key] = f"{values[name]}: {by_engine[name]}"
    return found


def _start_of(runs: Sequence[RunResult]) -> dict[str, str]:
    """How it was started and on which device: a container adds a network layer that a process does not have."""
    endpoints = [run.manifest.endpoint for run in runs if run.manifest.endpoint.launch != "attach"]
    found: dict[str, set[str]] = {
        "launch": {one.launch for one in endpoints},
        "device": {one.device for one in endpoints if one.device},
    }
    return {key: " | ".join(sorted(values)) for key, values in found.items() if values}


def _notes(evidence: Evidence, found: _Differences) -> list[str]:
    """What this candidate declares, including what changes no known setting."""
    manifest = evidence.manifest
    given = declared_keys(manifest).items()
    declared = [f"{_WORDS.get(key, key)} {_given_text(value)}" for key, value in given if key != "model"]
    notes = [f"Declared: {'; '.join(declared)}."] if declared else []
    if evidence.peers and found.declared:
        differ = (_beside(key, evidence.name, values) for key, values in found.declared.items())
        notes.append(f"As a result: {'; '.join(differ)}.")
    return notes + [f"{key} {why}." for key, why in found.spare.items()]


def _given_text(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={_given_text(one)}" for key, one in value.items())
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else setting_text(value)


def _beside(key: str, name: str, values: Mapping[str, str]) -> str:
    others = dict.fromkeys(value for one, value in values.items() if one != name and value != values[name])
    return f"{key} {values[name]} instead of {' and '.join(others)}"


def _side_by_side(differ: Mapping[str, Mapping[str, str]], titles: Mapping[str, str]) -> str:
    return "; ".join(
        f"{key} (" + ", ".join(f"{titles[name]} {value}" for name, value in values.items()) + ")"
        for key, values in differ.items()
    )


def _unknown_text(evidence: Evidence, unknown: Mapping[str, str]) -> str:
    by_reason: dict[str, list[str]] = {}
    for name, why in unknown.items():
        by_reason.setdefault(why, []).append(name)
    parts = [f"{', '.join(names)}{f' ({why})' if why else ''}" for why, names in by_reason.items()]
    return f"{evidence.manifest.candidate.title}, a server that already ran, does not report: {'; '.join(parts)}."


def _anyone_declares(peers: Peers) -> bool:
    return any(declared_keys(runs[0].manifest) for runs in peers.runs.values())


def gpus(evidence: Evidence) -> Outcome | None:
    """With different numbers of GPUs, only the numbers per GPU can be compared."""
    if evidence.peers is None:
        return None
    known = {
        name: sorted({gpus for run in runs if (gpus := run.manifest.endpoint.gpus) is not None})
        for name, runs in evidence.peers.runs.items()
    }
    numbers = {"gpus": known}
    mine = known[evidence.name]
    if not mine:
        return Outcome("ok", "How many GPUs serve the model is not known.", numbers)
    others = sorted({count for one in known.values() for count in one} - set(mine))
    if len(mine) == 1 and not others:
        return Outcome("ok", f"{_gpus_text(mine)} for every candidate.", numbers)
    against = f" against {' and '.join(map(str, others))}" if others else ""
    return Outcome(
        "doubt",
        f"{_gpus_text(mine)}{against}.",
        numbers,
        "Compare the throughput per GPU, or give every candidate the same number.",
    )


def _gpus_text(counts: Sequence[int]) -> str:
    text = " and ".join(map(str, counts))
    return "No GPU" if text == "0" else f"{text} GPU{'' if text == '1' else 's'}"
