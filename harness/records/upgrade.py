"""Upgrades older results to the current schema. No other module knows about older ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.errors import HarnessError

# File -> the schema that this version writes.
CURRENT = {"manifest.json": 2, "campaign.json": 2, "calibration.json": 2, "comparison.json": 3}
_LAUNCH = {"container": "compose"}
# Of requests.parquet: the columns that older versions did not write. Any other one that is missing is a fault: filled
# in with zeros, its times would be measurements that nobody made.
LATER_COLUMNS = ("due_s", "count_source", "reads", "stamped_reads", "output_ids", "output_text")


def upgraded(name: str, stored: Mapping[str, Any]) -> Mapping[str, Any]:
    """The content of a file of this name, in the current schema."""
    if stored["schema"] == CURRENT[name]:
        return stored
    if name == "comparison.json":  # made again from its runs, which are upgraded
        raise HarnessError("comparison.json is of an older version; write it again with `harness report FOLDER`.")
    upgrade = {"manifest.json": _manifest, "campaign.json": _campaign, "calibration.json": _calibration}
    return {**upgrade[name](stored), "schema": CURRENT[name]}


def full_columns(columns: Mapping[str, np.ndarray], wanted: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The columns of a `requests.parquet`, with the ones that older files lack filled in. `wanted`: column -> type."""
    found = dict(columns)
    count = len(found["index"])
    if "due_s" not in found:
        found["due_s"] = found["scheduled_s"]
    for name, kind in wanted.items():
        if name not in found:  # None for a text or a list, 0 for a number
            empty = str(kind) == "string" or str(kind).startswith("list")
            found[name] = np.full(count, None, dtype=object) if empty else np.zeros(count)
    return found


def _manifest(old: Mapping[str, Any]) -> dict[str, Any]:
    settings = dict(old["settings"])
    declared = settings.pop("declared", None) or {}
    declared = dict(declared) if isinstance(declared, Mapping) else {"declared": declared}
    unverified = declared.pop("as asked, not shown by the running engine", "")
    device = settings.pop("device", None)
    settings.pop("launch", None)
    model, client = old["model"], old["client"]
    tokens = (old["input_tokens"], old["output_tokens"])
    version = None if old["engine_version"] == "unknown" else old["engine_version"]
    return {
        "harness": old["harness"],
        "candidate": {
            "name": old["engine"],
            "engine": old["engine"],
            "title": old["engine_title"],
            "color": old["engine_color"],
            "null": bool(model.get("null_engine")),
        },
        "endpoint": {
            "launch": _LAUNCH.get(old["launch"], old["launch"]),
            "device": device,
            "gpus": {"cpu": 0, "cuda": 1}.get(device),
            "same_machine": client.get("same_machine"),
            "version": version,
            "tested_version": version,
            "image": old.get("image") or None,
            "settings": settings,
            "unverified": [name.replace(" ", "_") for name in unverified.split(", ") if name],
            "declared": {str(key): str(text) for key, text in declared.items()},
            "cold_start_s": old["cold_start_s"],
        },
        "model": {key: value for key, value in model.items() if key != "null_engine"},
        "load": _load(old),
        "schedule": {
            "digest": old["schedule_digest"],
            "whole": old["schedules_digest"],
            "seed": old["seed"],
            "requests": old["requests"],
            "in_flight": old["in_flight"],
            "input_tokens": tokens[0],
            "output_tokens": tokens[1],
        },
        "machine": _machine(old["machine"]),
        "client": {key: value for key, value in client.items() if key != "same_machine"},
        "probe": _probe(old["probe"]),
        "counters": old["counters"],
        "round": old["round"],
        "started_at": old["started_at"],
        "duration_s": old["duration_s"],
    }


def _load(old: Mapping[str, Any]) -> dict[str, Any]:
    """The load of an old manifest. One with a concurrency alone is a closed loop, one without is an offline batch."""
    keys = dict(old.get("load") or {})
    found = {name: keys[name] for name in ("requests", "cancel_fraction", "cancel_after_s") if name in keys}
    lasting = {"duration_s": keys.get("duration_s")}
    concurrency = keys.get("concurrency", old["concurrency"])
    if keys.get("rate") is not None or keys.get("arrivals") == "trace":
        own = {name: keys[name] for name in ("rate", "arrivals", "burstiness", "ramp_to") if name in keys}
        return {"kind": "open-loop", **found, **lasting, **own, "cap": concurrency}
    found.setdefault("requests", old["requests"])
    if keys.get("batch") is not None:
        return {"kind": "batches", **found, **lasting, "batch": keys["batch"]}
    if concurrency is None:
        return {"kind": "all-at-once", **found}
    ramp = {"ramp_s": keys.get("ramp_s", 0.0)}
    return {"kind": "closed-loop", **found, **lasting, **ramp, "concurrency": concurrency}


def _machine(old: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in old.items() if key != "gpu"}
    if old.get("gpu"):
        found["gpus"] = [str(old["gpu"])]
    return found


def _probe(old: Mapping[str, Any]) -> dict[str, Any] | None:
    if not old:
        return None
    probe = {key: value for key, value in old.items() if key != "unverified"}
    return {**probe, "version": probe.get("version") or None}


def _campaign(old: Mapping[str, Any]) -> dict[str, Any]:
    renamed = {"engines": "candidates", "load_points": "loads"}
    return {renamed.get(key, key): value for key, value in old.items()}


def _calibration(old: Mapping[str, Any]) -> dict[str, Any]:
    floors = [{("load" if key == "load_point" else key): value for key, value in f.items()} for f in old["floors"]]
    return {**old, "machine": _machine(old["machine"]), "floors": floors}
