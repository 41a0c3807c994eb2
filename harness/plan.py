"""Reads a comparison file: which model, which load, how often, with which settings for every engine."""

from __future__ import annotations

import dataclasses
import math
import tomllib
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from harness.adapter import Profile
from harness.errors import HarnessError, unknown
from harness.machine import usable_cores
from harness.workload import Workload

PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True, slots=True)
class Plan:
    """One comparison. `engines` empty means every engine that can start here."""

    name: str
    workload: Workload
    profile: Profile = Profile()
    engines: tuple[str, ...] = ()
    model: str = "tiny"
    rounds: int = 3
    request_deadline_s: float = 120.0
    port: int = 0  # 0: any free one


def read_plan(path: Path) -> Plan:
    """Raises HarnessError naming the file and the line or key that is wrong."""
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        raise HarnessError(f"{path}: not TOML: not UTF-8 text.") from None
    except OSError as problem:
        presets = ", ".join(sorted(p.name for p in PRESETS.glob("*.toml")))
        raise HarnessError(
            f"{path}: cannot read the comparison file ({problem.strerror}). Presets in {PRESETS.name}/: {presets}."
        ) from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise HarnessError(f"{path}: not TOML: {problem}") from None
    _check_keys(data, Plan, str(path), "")
    try:
        plan = msgspec.convert(data, Plan)
    except msgspec.ValidationError as problem:
        raise HarnessError(f"{path}: {problem}") from None
    _check_values(plan, str(path))
    return plan


def _check_keys(data: dict[str, Any], kind: type, file: str, where: str) -> None:
    """Unknown keys are an error: a misspelt one would silently leave its default in force."""
    hints = typing.get_type_hints(kind)
    for key, value in data.items():
        if key not in hints:
            raise unknown("key", f"{where}{key}", [f"{where}{name}" for name in hints], file)
        inner = _dataclass_in(hints[key])
        if inner is None:
            continue
        for i, item in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(item, dict):
                position = f"[{i}]" if isinstance(value, list) else ""
                _check_keys(item, inner, file, f"{where}{key}{position}.")


def _dataclass_in(hint: Any) -> type | None:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return hint
    if typing.get_origin(hint) in (tuple, typing.Union, types.UnionType):
        return next((d for arg in typing.get_args(hint) if (d := _dataclass_in(arg))), None)
    return None


def _check_values(plan: Plan, file: str) -> None:
    work, profile = plan.workload, plan.profile
    positive = {
        "rounds": plan.rounds,
        "request_deadline_s": plan.request_deadline_s,
        "workload.input_tokens": work.input_tokens,
        "workload.output_tokens": work.output_tokens,
        "workload.warmup_output_tokens": work.warmup_output_tokens,
        "profile.context_tokens": profile.context_tokens,
        "profile.concurrent_sequences": profile.concurrent_sequences,
        "profile.batched_tokens": profile.batched_tokens,
    }
    for i, point in enumerate(work.load):
        positive[f"workload.load[{i}].requests"] = point.requests
        positive[f"workload.load[{i}].concurrency"] = 1 if point.concurrency is None else point.concurrency
    for key, value in positive.items():
        if not 0 < value < math.inf:
            raise HarnessError(f"{file}: {key} is {value}; it must be above 0.")
    limits = {"port": (plan.port, 65535), "profile.threads": (profile.threads, len(usable_cores()))}
    for key, (value, most) in limits.items():
        if not 0 <= value <= most:
            raise HarnessError(f"{file}: {key} is {value}; it must be from 0 to {most}.")
    if not work.load:
        raise HarnessError(f"{file}: workload.load is empty; name at least one load point.")
    names = [point.name for point in work.load]
    for name in names:
        if names.count(name) > 1:
            raise HarnessError(f"{file}: load point {name} occurs twice; each may occur once.")
    total = work.input_tokens + work.output_tokens
    if total > profile.context_tokens:
        raise HarnessError(
            f"{file}: {work.input_tokens} prompt + {work.output_tokens} output tokens = {total} exceed "
            f"profile.context_tokens = {profile.context_tokens}. Most engines would silently shorten the "
            "output; raise context_tokens or lower the lengths."
        )
