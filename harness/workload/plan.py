"""Reads a comparison file: candidates, workload, loads, rounds, and the settings that all share."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from harness.errors import HarnessError, unknown
from harness.machine import usable_cores
from harness.secret_names import masked, secret_values
from harness.visible import visible
from harness.workload.candidate import LONGEST_NAME, Candidate, Launch, candidates_of, profile_of
from harness.workload.checks import check_profile, check_workload
from harness.workload.given_files import file_named, read_toml
from harness.workload.lengths import Given
from harness.workload.load_base import Key, check_from_zero, check_positive
from harness.workload.load_keys import LoadKeys, load_of
from harness.workload.price import Price
from harness.workload.profile import Profile
from harness.workload.slo import Slo, slo_of
from harness.workload.spec import Workload
from harness.workload.texts import BUILT_IN, BUILT_IN_FILE, read_texts
from harness.workload.traces import FORMATS, Part, read_trace

MOST_ROUNDS = 1000

PRESETS = Path(__file__).parents[1] / "presets"
_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smh])")
_OLD_LAUNCH = {"container": "compose"}  # old name -> new name


def _named(place: str) -> Key:
    return lambda field: f"{place}{field}"


@dataclass(frozen=True, slots=True)
class Plan:
    """One comparison. No candidates means every engine that can start here."""

    name: str
    workload: Workload
    profile: Profile = Profile()
    candidates: tuple[Candidate, ...] = ()
    model: str = "tiny"
    rounds: int = 5  # at least
    precision: float = 0.05  # wanted: half the width of a ratio's interval, as a share of it
    budget_s: float = 0.0  # more rounds are measured until then if the precision is not reached; 0: none
    slo: Slo | None = None
    request_deadline_s: float = 120.0
    port: int = 0  # 0: any free one
    workers: int = 1  # processes that send the requests
    price: Price | None = None
    power_command: str = ""  # prints watts, one number a line
    launch: Launch = "auto"  # auto: a container if possible, else a process
    device: Literal["auto", "cuda", "cpu"] = "auto"  # auto: the GPU if there is one


@dataclass(frozen=True, slots=True, kw_only=True)
class _WorkloadTable:
    """The `[workload]` table of the file."""

    input_tokens: Given = None
    output_tokens: Given = None
    load: tuple[LoadKeys, ...]
    seed: int = 1
    warmup_output_tokens: int = 8
    trace: str = ""
    trace_sha256: str = ""
    trace_format: str = ""
    trace_from_s: float = 0.0
    trace_for_s: float | None = None
    texts: str = ""
    texts_sha256: str = ""
    ends: Literal["exact", "natural"] = "exact"


@dataclass(frozen=True, slots=True)
class _File:
    """The tables and keys of a comparison file."""

    name: str
    workload: _WorkloadTable
    profile: Profile = Profile()
    engines: tuple[str, ...] = ()
    candidate: tuple[Candidate, ...] = ()
    model: str = "tiny"
    rounds: int = 5
    precision: float = 0.05
    budget: str = ""
    slo: str | Slo | None = None
    request_deadline_s: float = 120.0
    port: int = 0
    workers: int = 1
    price: Price | None = None
    power_command: str = ""
    launch: Launch = "auto"
    device: Literal["auto", "cuda", "cpu"] = "auto"


def read_plan(path: Path) -> Plan:
    """The plan, with its trace if it names one. Raises HarnessError with the file and the wrong line or key."""
    presets = ", ".join(sorted(p.name for p in PRESETS.glob("*.toml")))
    data = read_toml(path, "the comparison file", f" Presets in {PRESETS.name}/: {presets}.")
    _check_keys(data, _File, str(path), "")
    try:
        file = msgspec.convert(_with_new_names(data), _File)
    except msgspec.ValidationError as problem:
        raise HarnessError(f"{path}: {visible(str(problem))}") from None
    return _plan(file, path)


def _with_new_names(data: dict[str, Any]) -> dict[str, Any]:
    """The file's content with old names of values replaced, at the top level and in each candidate."""
    launch = data.get("launch")
    found = {**data, "launch": _OLD_LAUNCH[launch]} if isinstance(launch, str) and launch in _OLD_LAUNCH else data
    tables = found.get("candidate")
    if isinstance(tables, list):
        found = {**found, "candidate": [_with_new_names(one) if isinstance(one, dict) else one for one in tables]}
    return found


def _plan(file: _File, path: Path) -> Plan:
    """The plan that the file describes, checked."""
    where = str(path)
    table = file.workload
    loads = tuple(load_of(keys, where, _named(f"workload.load[{i}].")) for i, keys in enumerate(table.load))
    asked = {f.name: getattr(table, f.name) for f in dataclasses.fields(table) if f.name != "load"}
    workload = with_texts(with_trace(Workload(load=loads, **asked), path.parent, where), path.parent, where)
    kept = {f.name: getattr(file, f.name) for f in dataclasses.fields(file)}
    kept["name"] = unicodedata.normalize("NFC", file.name)  # as most systems type it; some editors write two characters
    candidates = candidates_of(kept.pop("engines"), kept.pop("candidate"), where)
    slo, budget_s = kept.pop("slo"), _seconds(kept.pop("budget"), "budget", where)
    objectives = None if slo is None else slo_of(slo, where)
    plan = Plan(**{**kept, "workload": workload, "candidates": candidates, "slo": objectives, "budget_s": budget_s})
    _check_values(plan, where)
    return plan


def with_prices(plan: Plan) -> Plan:
    """The plan with the comparison's price for every candidate that has none of its own."""
    price = plan.price.usd_per_hour if plan.price else None
    priced = [c if c.price_usd_per_hour is not None else replace(c, price_usd_per_hour=price) for c in plan.candidates]
    return replace(plan, candidates=tuple(priced))


def _seconds(text: str, key: str, where: str) -> float:
    """`90s`, `20m` or `1.5h` in seconds; 0 if empty. Raises HarnessError for anything else."""
    if not text:
        return 0.0
    found = _TIME.fullmatch(text)
    if not found or not float(found[1]):
        raise HarnessError(f"{where}: {key} is '{visible(text, 40)}'; give a time such as 90s, 20m or 1.5h.")
    seconds = float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]
    check_positive(key, seconds, where)
    return seconds


def stored(plan: Plan) -> Plan:
    """The plan as `plan.json` keeps it: a trace and texts by path and SHA-256, without what is in them, and no
    secrets."""
    candidates = tuple(
        replace(one, args=masked(one.args, hidden), env=masked(one.env, hidden))
        for one in plan.candidates
        for hidden in (secret_values(one.args, one.env),)
    )
    return replace(plan, candidates=candidates, workload=replace(plan.workload, traced=(), written=(), encoded=()))


def with_trace(workload: Workload, folder: Path, where: str, key: Key | None = None) -> Workload:
    """The workload with the requests and the SHA-256 of its trace, whose path is relative to `folder`; unchanged
    without a trace. `key` gives a field's name as the user wrote it. Raises HarnessError for a file that is not a
    trace, or whose SHA-256 is not the one given."""
    key = key or _named("workload.")
    check_from_zero(key("trace_from_s"), workload.trace_from_s, where)
    if workload.trace_for_s is not None:
        check_positive(key("trace_for_s"), workload.trace_for_s, where)
    if not workload.trace:
        if workload.part != Part():
            raise HarnessError(
                f"{where}: {key('trace_from_s')}, {key('trace_for_s')} and {key('trace_format')} need a trace."
            )
        return workload
    if workload.trace_format and workload.trace_format not in FORMATS:
        raise unknown(key("trace_format"), workload.trace_format, FORMATS, where)
    file = file_named(folder, workload.trace)
    trace = read_trace(file, workload.part)
    if workload.trace_sha256 not in ("", trace.sha256):
        raise HarnessError(
            f"{where}: {file} is another trace: its SHA-256 is {trace.sha256}, but workload.trace_sha256 is "
            f"{visible(workload.trace_sha256, 64)}."
        )
    return replace(workload, trace_sha256=trace.sha256, traced=trace.requests, trace_facts=trace.facts)


def with_texts(workload: Workload, folder: Path, where: str) -> Workload:
    """The workload with its texts and their SHA-256; the path is relative to `folder`. Unchanged without texts. Raises
    HarnessError for a file that holds none, or whose SHA-256 is not the one given."""
    if not workload.texts:
        if workload.texts_sha256:
            raise HarnessError(f"{where}: workload.texts_sha256 needs workload.texts, the file that it is of.")
        return workload
    file = BUILT_IN_FILE if workload.texts == BUILT_IN else file_named(folder, workload.texts)
    written, sha256 = read_texts(file)
    if workload.texts_sha256 not in ("", sha256):
        raise HarnessError(
            f"{where}: {file} has other texts: its SHA-256 is {sha256}, but workload.texts_sha256 is "
            f"{visible(workload.texts_sha256, 64)}."
        )
    return replace(workload, texts_sha256=sha256, written=written)


def _check_keys(data: dict[str, Any], kind: type, file: str, where: str) -> None:
    """Raises HarnessError for an unknown key: a misspelt one would silently leave the default in force."""
    hints = _names(kind)
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


def _names(kind: type) -> dict[str, Any]:
    """The keys of a table and their types."""
    if issubclass(kind, msgspec.Struct):
        return {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    return typing.get_type_hints(kind)


def _dataclass_in(hint: Any) -> type | None:
    if isinstance(hint, type) and (dataclasses.is_dataclass(hint) or issubclass(hint, msgspec.Struct)):
        return hint
    if typing.get_origin(hint) in (tuple, typing.Union, types.UnionType):
        return next((d for arg in typing.get_args(hint) if (d := _dataclass_in(arg))), None)
    return None


def _check_values(plan: Plan, file: str) -> None:
    if not _names_a_folder(plan.name):
        raise HarnessError(
            f"{file}: name is '{visible(plan.name, 60)}'; it names a folder: letters, digits, '.', '_' and '-', at "
            f"most {LONGEST_NAME} bytes of them, with a letter or digit first and no '.' last."
        )
    if not plan.model:
        raise HarnessError(f"{file}: model is empty; leave it out, or name a folder or a hub id.")
    check_positive("rounds", plan.rounds, file, MOST_ROUNDS)
    check_positive("precision", plan.precision, file, 1.0)
    check_positive("request_deadline_s", plan.request_deadline_s, file)
    if plan.price is not None:
        check_positive("price.usd_per_hour", plan.price.usd_per_hour, file)
    if not 0 <= plan.port <= 65535:
        raise HarnessError(f"{file}: port is {plan.port}; it must be from 0 to 65535.")
    cores = len(usable_cores())
    check_profile(plan.profile, cores, file, "profile.")
    for candidate in plan.candidates:
        profile = profile_of(plan.profile, candidate, file)
        check_profile(profile, cores, file, f"candidate {candidate.name}: profile.")
    check_workload(plan.workload, least_context(plan, file), file, plan.workers, cores)


def _names_a_folder(name: str) -> bool:
    """Whether a name can be one, in any script."""
    return (
        name[:1].isalnum()
        and not name.endswith(".")
        and all(c in "._-" or c.isalnum() or unicodedata.category(c).startswith("M") for c in name)
        and len(name.encode()) <= LONGEST_NAME
    )


def least_context(plan: Plan, file: str) -> int | None:
    """The smallest context, in tokens, of the candidates that the harness starts; None if all already run."""
    if not plan.candidates:
        return plan.profile.context_tokens
    started = [profile_of(plan.profile, one, file).context_tokens for one in plan.candidates if not one.attached]
    return min(started, default=None)
