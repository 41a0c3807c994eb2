"""What planted faults are made of: invented runs, and what goes wrong in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.records.calibration import Calibration
from harness.records.manifest import ImageFacts
from harness.records.request import RequestRecord
from harness.records.run import RunResult
from harness.workload.loads import Load
from tests.invented import ALPHA, BETA, manifest
from tests.judge.serving import Records, length_s, serve, warped, write_rounds
from tests.loads import load

Make = Callable[[Path], Sequence[RunResult]]  # writes the runs below a folder and reads them back
ROUNDS = 5
C1, C8, RATE = load(40, 1), load(160, 8), load(200, rate=20.0)


@dataclass(frozen=True, slots=True)
class Planted:
    """`fault` and `twin` in words; `verdict`: what the check says of the candidate `name`'s cell with the fault. On the
    twin it says ok, or `silent`."""

    code: str
    fault: str
    verdict: str
    make: Make
    twin: str
    clean: Make
    name: str = "alpha"
    silent: str = "ok"
    calibrated: Calibration | None = None  # what is known of the client and its machine


Fault = Callable[[Records], Records]


def runs_of(
    folder: Path,
    point: Load = C8,
    fault: Fault = list,
    changes: Mapping[int, Mapping[str, Any]] | None = None,
    only: Sequence[int] = range(1, ROUNDS + 1),
    served: Mapping[str, Any] | None = None,
    rounds: int = ROUNDS,
    **same: Any,
) -> list[RunResult]:
    """Rounds of one candidate at `point`, those in `only` with the fault. `served`: how it serves."""
    made = [serve(point, seed, **(served or {})) for seed in range(1, rounds + 1)]
    return write_rounds(
        folder, point, [fault(rows) if r in only else rows for r, rows in enumerate(made, 1)], changes=changes, **same
    )


def made(**kwargs: Any) -> Make:
    return partial(runs_of, **kwargs)


def half_speed(rows: Records) -> Records:
    """Everything after the middle takes twice as long."""
    middle = length_s(rows) / 2
    return warped(rows, lambda t: t if t < middle else 2 * t - middle)


def stopped(rows: Records, seconds: float = 10.0, share: float = 0.5) -> Records:
    """The engine stops for some seconds in mid-run."""
    at = length_s(rows) * share
    return warped(rows, lambda t: t if t < at else t + seconds)


def slow_first(rows: Records, count: int = 4, times: float = 3.0) -> Records:
    """The first requests take three times as long; at c1, where all later ones move."""
    ends = sorted(row.done_s or 0.0 for row in rows)[count - 1]
    return warped(rows, lambda t: t * times if t < ends else t + (times - 1) * ends)


def first_token_before_send(rows: Records) -> Records:
    early = (rows[7].sent_s or 0.0) - 0.02
    first, *rest = rows[7].chunks
    chunks = (first._replace(arrival_ns=int(early * 1e9), read_ns=int(early * 1e9)), *rest)
    return [*rows[:7], replace(rows[7], first_token_s=early, chunks=chunks), *rows[8:]]


def altered(index: int, rows: Records, **changes: Any) -> Records:
    return [replace(row, **changes) if row.index == index else row for row in rows]


def without_half(rows: Records) -> Records:
    return rows[::2]


def tokens(rows: Sequence[RequestRecord]) -> float:
    return float(sum(row.output_tokens for row in rows))


def counted(factor: float) -> dict[int, dict[str, Any]]:
    """The engine's own counter of every round, `factor` times the tokens that were received."""
    return {r: {"counters": {"output_tokens": factor * tokens(serve(C8, r))}} for r in range(1, ROUNDS + 1)}


def same_in(rounds: Sequence[int], **changes: Any) -> dict[int, dict[str, Any]]:
    return dict.fromkeys(rounds, changes)


def rising(step: float) -> Make:
    """Every round faster than the last by this share."""

    def make(folder: Path) -> list[RunResult]:
        rounds = [serve(C8, seed, factor=1 / (1 + step) ** seed) for seed in range(1, ROUNDS + 1)]
        return write_rounds(folder, C8, rounds)

    return make


def other_cores(folder: Path) -> list[RunResult]:
    """Two candidates on a machine that got more cores in between, under the same id."""
    made = runs_of(folder)
    more = replace(manifest(ALPHA).machine, cores=64)
    return [*made, *write_rounds(folder, C8, [serve(C8, r) for r in range(1, ROUNDS + 1)], BETA, machine=more)]


def two_candidates(folder: Path) -> list[RunResult]:
    return [*runs_of(folder), *write_rounds(folder, C8, [serve(C8, r) for r in range(1, ROUNDS + 1)], BETA)]


def image(digit: str) -> dict[str, Any]:
    return {"endpoint__launch": "compose", "endpoint__image": ImageFacts(name="alpha:1", digest="sha256:" + digit * 64)}


LOCKSTEP = {"lengths": (32, 32), "staggered": False, "noise": 0.003}
PREFILL = {"ttft_s": 2.0}
CLEAN = made()
