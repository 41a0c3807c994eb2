"""Planted faults: what is wrong with the runs, the check that has to say so, and a clean twin on which it is silent.

The same list makes the tests and the table in docs/statistics.md (`python -m tests.bench.faults`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.records.manifest import ImageFacts, MachineFacts
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


def _image(digit: str) -> dict[str, Any]:
    return {"endpoint__launch": "compose", "endpoint__image": ImageFacts(name="alpha:1", digest="sha256:" + digit * 64)}


LOCKSTEP = {"lengths": (32, 32), "staggered": False, "noise": 0.003}
PREFILL = {"ttft_s": 2.0}
CLEAN = made()
OURS: tuple[Planted, ...] = (
    Planted(
        "STEADY_STATE",
        "the second half of every run at half speed",
        "invalid",
        made(fault=half_speed),
        "noise of 5 % on every time",
        CLEAN,
    ),
    Planted(
        "STEADY_STATE",
        "the same in a single round",
        "invalid",
        made(fault=half_speed, rounds=1),
        "one round without it",
        made(rounds=1),
    ),
    Planted(
        "STEADY_STATE",
        "half speed in an open loop, where arrivals set the throughput",
        "invalid",
        made(point=RATE, fault=half_speed),
        "an open loop that keeps up",
        made(point=RATE),
    ),
    Planted(
        "STEADY_STATE",
        "constant lengths, c16, 2 waves: lock-step",
        "doubt",
        made(point=load(32, 16), served=LOCKSTEP),
        "drawn lengths, slots opened one after the other, c16, 10 waves",
        made(point=load(160, 16)),
    ),
    Planted(
        "STEADY_STATE",
        "constant lengths, c16, 10 waves: lock-step",
        "doubt",
        made(point=load(160, 16), served=LOCKSTEP),
        "constant lengths, slots opened one after the other",
        made(point=load(160, 16), served={"lengths": (32, 32)}),
    ),
    Planted(
        "STALL",
        "the engine stopped for 10 s in the middle of one round",
        "doubt",
        made(fault=stopped, only=[3]),
        "a prefill of 2 s in every request",
        made(served=PREFILL),
    ),
    Planted(
        "STALL",
        "the same with one user, while a prompt is prefilled",
        "doubt",
        made(point=C1, fault=lambda rows: warped(rows, lambda t: t if t < (rows[20].sent_s or 0) + 0.01 else t + 10)),
        "one user and a prefill of 2 s",
        made(point=C1, served=PREFILL),
    ),
    Planted(
        "WARMUP",
        "the first 4 requests three times as slow, one user",
        "doubt",
        made(point=C1, fault=slow_first),
        "in one round of five only",
        made(point=C1, fault=slow_first, only=[2]),
    ),
    Planted(
        "PREEMPTION",
        "400 preemptions in 800 requests",
        "doubt",
        made(counters={"preemptions": 80.0}),
        "none",
        made(counters={"preemptions": 0.0}),
    ),
    Planted(
        "TOKEN_COUNT",
        "the engine's counter rose by 10 times the tokens received",
        "invalid",
        made(changes=counted(10.0)),
        "it rose by as many",
        made(changes=counted(1.0)),
    ),
    Planted(
        "TOKEN_COUNT",
        "by 5 % more",
        "doubt",
        made(changes=counted(1.05)),
        "by 0.5 % more",
        made(changes=counted(1.005)),
    ),
    Planted(
        "SAME_ENGINE",
        "another version in rounds 2 and 3",
        "invalid",
        made(changes=same_in([2, 3], endpoint__version="1.2.4")),
        "one version",
        CLEAN,
    ),
    Planted(
        "SAME_ENGINE",
        "another image in round 2",
        "invalid",
        made(changes={2: _image("2")}, **_image("1")),
        "one image",
        made(**_image("1")),
    ),
    Planted(
        "SAME_ENGINE",
        "int8 weights in rounds 2 and 3 only",
        "invalid",
        made(changes=same_in([2, 3], model__weight_dtype="int8")),
        "bfloat16 in all",
        CLEAN,
    ),
    Planted(
        "SAME_ENGINE",
        "another launch line in round 4",
        "invalid",
        made(
            changes=same_in([4], endpoint__launch_line=("{env}/run", "--eager")), endpoint__launch_line=("{env}/run",)
        ),
        "one launch line",
        made(endpoint__launch_line=("run",)),
    ),
    Planted(
        "SAME_ENGINE",
        "half the context in round 5",
        "doubt",
        made(changes=same_in([5], endpoint__settings={"context_tokens": 512, "prefix_cache": False, "threads": 8})),
        "one context",
        CLEAN,
    ),
    Planted(
        "SAME_ENGINE",
        "the same machine id with other cores for the other candidate",
        "invalid",
        other_cores,
        "two candidates on one machine",
        two_candidates,
    ),
    Planted(
        "SAME_ENGINE",
        "the machine got half the cores from round 3 on",
        "invalid",
        made(changes=same_in([3, 4, 5], machine=MachineFacts(id="box-1", cpu="Invented CPU 3000", cores=4))),
        "the same cores",
        CLEAN,
    ),
    Planted(
        "ERROR_RATE",
        "half of a round's requests missing from requests.parquet",
        "invalid",
        made(fault=without_half, only=[2], schedule__requests=160),
        "all there",
        made(schedule__requests=160),
    ),
    Planted(
        "ERROR_RATE",
        "the same where sending stops after some seconds",
        "invalid",
        made(point=load(160, 8, duration_s=30.0), fault=without_half, only=[2], schedule__requests=400),
        "a fifth fewer requests in the same time",
        made(point=load(160, 8, duration_s=30.0), fault=lambda r: r[:128], only=[2], schedule__requests=400),
    ),
    Planted(
        "TIMELINE",
        "one first token before its send",
        "invalid",
        made(fault=first_token_before_send, only=[4]),
        "times in order",
        CLEAN,
    ),
    Planted(
        "TIMELINE",
        "a last token before the first",
        "invalid",
        made(fault=lambda rows: altered(9, rows, last_token_s=(rows[9].first_token_s or 0) - 0.001)),
        "times in order, one user",
        made(point=C1),
    ),
    Planted(
        "TIMELINE",
        "an end before the last token",
        "invalid",
        made(fault=lambda rows: altered(9, rows, done_s=(rows[9].last_token_s or 0) - 0.01)),
        "times in order, an open loop",
        made(point=RATE),
    ),
    Planted(
        "TIMELINE",
        "an answered request without the time of its first token",
        "invalid",
        made(fault=lambda rows: altered(9, rows, first_token_s=None)),
        "a failed request without it",
        made(fault=lambda rows: altered(9, rows, first_token_s=None, status="failed", error="HTTP 500")),
    ),
    Planted(
        "TIMELINE",
        "tokens of an answered request missing from chunks.parquet",
        "invalid",
        made(fault=lambda rows: altered(9, rows, chunks=())),
        "all there",
        CLEAN,
    ),
    Planted(
        "DRIFT",
        "every round 5 % faster than the last",
        "doubt",
        rising(0.05),
        "rounds that differ by noise",
        CLEAN,
    ),
)
PLANTED: tuple[Planted, ...] = OURS
