"""Whether two comparisons asked the same, so that the earlier one can be what the later one is held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import NotComparable
from harness.judge.comparable import machine_difference
from harness.judge.comparison import Comparison
from harness.records.manifest import MachineFacts
from harness.workload.loads import Load

MACHINE_KINDS = ("cpu", "cores", "gpus")  # an equal id with another of these is another machine all the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a comparison asks of whom, on what. `where`: its folder or file, for messages; `requests`: load and round ->
    the digest of the requests."""

    where: str
    model: str | None  # digest
    machines: Mapping[str, MachineFacts]  # candidate -> the client's machine
    loads: Mapping[str, Load]
    requests: Mapping[tuple[str, int], str]


def asked_in(comparison: Comparison, where: str) -> Asked:
    """What a finished comparison asked."""
    machines = {machine.id: machine for machine in comparison.machines}
    digest = comparison.model.get("digest")
    return Asked(
        where=where,
        model=None if digest is None else str(digest),
        machines={one.name: machines[one.machine] for one in comparison.candidates if not one.once},
        loads={load.name: load.load for load in comparison.loads},
        requests={
            (cell.load, round_index): digest
            for cell in comparison.cells
            for round_index, digest in zip(cell.rounds, cell.schedule_digests, strict=True)
        },
    )


def refuse_other_question(now: Asked, then: Asked, allow_machine: bool = False) -> None:
    """Raises NotComparable in one line where model, candidates, loads, requests or machine are not the same. Rounds and
    loads that only one of them has are no reason: the others are held against each other."""
    for one in (now, then):
        if one.model is None:
            raise NotComparable(f"{one.where}: the digest of its model is not known, so it cannot be held against.")
    if now.model != then.model:
        _refuse(now, then, "served different models", str(now.model)[:12], str(then.model)[:12])
    shared = [name for name in now.machines if name in then.machines]
    if not shared:
        _refuse(now, then, "have no candidate in common", ", ".join(now.machines), ", ".join(then.machines))
    loads = [name for name in now.loads if name in then.loads]
    if not loads:
        _refuse(now, then, "have no load in common", ", ".join(now.loads), ", ".join(then.loads))
    for name in loads:
        if now.loads[name] != then.loads[name]:
            _refuse(now, then, f"mean different loads by {name}", *_differing(now.loads[name], then.loads[name]))
    _refuse_other_requests(now, then)
    if not allow_machine:
        for name in shared:
            _refuse_other_machine(now, then, name)


def same_machine(one: MachineFacts, other: MachineFacts) -> bool:
    """Whether both are known to be one machine, as it was."""
    known = one.id is not None and one.id == other.id
    return known and all(getattr(one, kind) == getattr(other, kind) for kind in MACHINE_KINDS)


def _refuse_other_requests(now: Asked, then: Asked) -> None:
    common = [key for key in now.requests if key in then.requests]
    if not common:
        raise NotComparable(f"{now.where} and {then.where} have no round of one load in common.")
    for load, round_index in common:
        mine, theirs = now.requests[load, round_index], then.requests[load, round_index]
        if mine != theirs:
            what = f"sent different requests at {load} in round {round_index} (lengths, seed, trace or tokenizer)"
            _refuse(now, then, what, mine[:12], theirs[:12])


def _refuse_other_machine(now: Asked, then: Asked, name: str) -> None:
    mine, theirs = now.machines[name], then.machines[name]
    if mine.id is None or theirs.id is None:
        raise NotComparable(f"{(now if mine.id is None else then).where}: its machine is not known; measure it again.")
    if not same_machine(mine, theirs):
        raise NotComparable(
            f"{now.where} and {then.where} were measured from different machines: {machine_difference(mine, theirs)}. "
            "Measure both on one machine, or look at them side by side with --allow machine, without a verdict."
        )


def _refuse(now: Asked, then: Asked, complaint: str, mine: str, theirs: str) -> None:
    raise NotComparable(
        f"{now.where} and {then.where} {complaint}: {mine or 'none'} and {theirs or 'none'}. Only a comparison of the "
        "same file is one of versions."
    )


def _differing(one: Load, other: Load) -> tuple[str, str]:
    """What differs between two loads, one text for each."""
    if type(one) is not type(other):
        return type(one).__name__, type(other).__name__
    names = [name for name in one.__struct_fields__ if getattr(one, name) != getattr(other, name)]
    mine, theirs = (", ".join(f"{name} {getattr(load, name)}" for name in names) for load in (one, other))
    return mine, theirs
