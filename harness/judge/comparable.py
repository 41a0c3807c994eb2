"""Which runs may be compared."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict

from harness.errors import NotComparable
from harness.records.manifest import MachineFacts
from harness.records.run import RunResult

# What must be known of a run to compare it: unknown never equals unknown.
_KNOWN: tuple[tuple[str, Callable[[RunResult], str | None]], ...] = (
    ("the digest of its model", lambda run: run.manifest.model.digest),
    ("its machine", lambda run: run.manifest.machine.id),
    ("the digest of its schedule", lambda run: run.manifest.schedule.digest),
    ("the digest of the whole workload", lambda run: run.manifest.schedule.whole),
)


def refuse_unlike(runs: Sequence[RunResult], allow_machine: bool = False) -> None:
    """Raises NotComparable for the first two runs that cannot be compared, with the reason in one line. With
    `allow_machine` candidates may come from different machines, but all runs of one candidate from the same one."""
    _once(runs)
    if len(runs) > 1:
        for run in runs:
            for what, of in _KNOWN:
                if not of(run):
                    other = next(one for one in runs if one is not run)
                    raise NotComparable(
                        f"{run.folder}: {what} is not known, so it cannot be compared with {other.folder}."
                    )
    _same(runs, "answer different workloads", _any, lambda run: run.manifest.schedule.whole)
    _same(runs, "served different models (name)", _any, lambda run: run.manifest.model.name)
    _same(runs, "served different models (digest)", _any, lambda run: run.manifest.model.digest)
    _same_machine(runs, _name if allow_machine else _any)
    _same(runs, "replayed different schedules", _slot, lambda run: run.manifest.schedule.digest)


def _once(runs: Sequence[RunResult]) -> None:
    """Raises NotComparable if two runs have the same candidate, load and round."""
    first: dict[Hashable, RunResult] = {}
    for run in runs:
        other = first.setdefault((_name(run), *_slot(run)), run)
        if other.folder != run.folder:
            raise NotComparable(
                f"{other.folder} and {run.folder} are the same run twice; move one of them to another place."
            )


def _same(
    runs: Sequence[RunResult],
    complaint: str,
    group: Callable[[RunResult], Hashable],
    value: Callable[[RunResult], object],
) -> None:
    """Raises NotComparable if a run has another value than the first run of its group."""
    first: dict[Hashable, RunResult] = {}
    for run in runs:
        other = first.setdefault(group(run), run)
        if value(run) != value(other):
            raise NotComparable(
                f"{other.folder} and {run.folder} {complaint}: {str(value(other))[:24]} and "
                f"{str(value(run))[:24]}. Measure them again in one comparison."
            )


def _same_machine(runs: Sequence[RunResult], group: Callable[[RunResult], Hashable]) -> None:
    first: dict[Hashable, RunResult] = {}
    for run in runs:
        other = first.setdefault(group(run), run)
        if run.manifest.machine.id != other.manifest.machine.id:
            raise NotComparable(
                f"{other.folder} and {run.folder} were measured from different machines: "
                f"{machine_difference(other.manifest.machine, run.manifest.machine)}. Measure them again on one."
            )


def machine_difference(one: MachineFacts, other: MachineFacts) -> str:
    """What differs between two machines, in one line."""
    facts, others = asdict(one), asdict(other)
    parts = [
        f"{name} {_text(facts[name])} against {_text(others[name])}"
        for name in ("cpu", "cores", "memory_bytes", "gpus", "system", "python")
        if facts[name] != others[name]
    ]
    return "; ".join(parts) or f"the same kind, but two machines ({one.id} and {other.id})"


def _text(value: object) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "none"
    return "not known" if value is None else str(value)


def _any(run: RunResult) -> Hashable:
    return None


def _name(run: RunResult) -> str:
    return run.manifest.candidate.name


def _slot(run: RunResult) -> tuple[str, int]:
    return run.manifest.load.name, run.manifest.round
