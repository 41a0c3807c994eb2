"""What the harness's own fields cost an engine: CPU microseconds of its front end a token, with and without them.

    python -m tests.bench.cost_of_fields ENGINE [--repeats 14] [--requests 64] [--tokens 64] [--slots 16]

Starts the engine here with the model `tiny`, sends the same closed loop with each set of fields in turn, and prints a
Markdown table with medians. The front end is the process that answers requests; where it is also the one that computes,
the numbers are those of both."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psutil

import engines
from harness.adapter import Dialect, Engine
from harness.campaign.target import Prompts, Target, target_of
from harness.launch.endpoint import Endpoint
from harness.machine import describe_machine
from harness.workload.schedule import build_schedule
from harness.workload.spec import Workload
from tests.loads import load
from tests.started import started_here
from tests.wire_engines.onwire import tiny_texts

DEADLINE_S = 120.0
RUNNING = {"include_usage": True, "continuous_usage_stats": True}


@dataclass(frozen=True, slots=True)
class Taken:
    """CPU microseconds for each token: of the process that answers, and of all processes of the engine."""

    front: float
    whole: float


def sets_of(dialect: Dialect) -> dict[str, Dialect]:
    """The sets of fields that are compared, by what they are."""
    bare = {key: value for key, value in dialect.streaming.items() if value is True}
    found = {"ours": dialect, "none beside streaming": replace(dialect, counting={}, streaming=bare)}
    if dialect.counting and bare != dialect.streaming:
        found["ids alone"] = replace(dialect, streaming=bare)
    if "stream_options" in dialect.streaming and dialect.streaming["stream_options"] != RUNNING:
        found["ours, and usage in every event"] = replace(
            dialect, streaming={**dialect.streaming, "stream_options": RUNNING}
        )
    return found


def cpu_s(endpoint: Endpoint) -> tuple[float, float]:
    """CPU seconds so far of the process that answers and of all of them. The endpoint's process keeps the engine; its
    first child is the engine."""
    assert endpoint.pid is not None
    front, *others = psutil.Process(endpoint.pid).children(recursive=True)
    times = [sum(process.cpu_times()[:2]) for process in (front, *others)]
    return times[0], sum(times)


def measure(endpoint: Endpoint, target: Target, work: Workload, seed: int) -> Taken:
    """One closed loop with this target's fields."""
    (asked,) = work.load
    schedule = build_schedule(work, asked, seed, target.prompts.vocabulary)
    before = cpu_s(endpoint)
    records = list(target.replay(schedule).records)
    after = cpu_s(endpoint)
    failed = [record.error for record in records if record.status != "ok"]
    if failed:
        raise SystemExit(f"{len(failed)} requests failed: {failed[0]}")
    tokens = len(schedule.requests) * int(records[0].asked_tokens)  # without ids or usage they are not counted
    front, whole = (1e6 * (b - a) / tokens for a, b in zip(before, after, strict=True))
    return Taken(front, whole)


def compared(endpoint: Endpoint, engine: Engine, work: Workload, repeats: int) -> dict[str, list[Taken]]:
    """Every set of fields so many times, in turn, after a warm-up."""
    assert isinstance(engine.dialect, Dialect)
    texts, dialects = tiny_texts(), sets_of(engine.dialect)
    ours = target_of(endpoint, engine, Prompts(texts.vocabulary, texts.lead, texts.text), DEADLINE_S)
    targets = {name: replace(ours, dialect=dialect, more=_model(dialect)) for name, dialect in dialects.items()}
    taken: dict[str, list[Taken]] = {name: [] for name in dialects}
    for target in targets.values():
        measure(endpoint, target, work, 1)
    for repeat in range(repeats):
        names = list(dialects)
        for name in names if repeat % 2 else names[::-1]:  # a machine that warms up favours none
            taken[name].append(measure(endpoint, targets[name], work, repeat + 2))
    return taken


def table(taken: Mapping[str, Sequence[Taken]]) -> list[str]:
    """One row for each set of fields: medians, and the single runs' range."""
    lines = ["| fields | front end, µs/token | least to most | all processes, µs/token |", "| --- | --- | --- | --- |"]
    for name, runs in taken.items():
        front, whole = [one.front for one in runs], [one.whole for one in runs]
        span = f"{min(front):.1f} to {max(front):.1f}"
        lines.append(f"| {name} | {statistics.median(front):.1f} | {span} | {statistics.median(whole):.1f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine")
    parser.add_argument("--repeats", type=int, default=14)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--slots", type=int, default=16)
    given = parser.parse_args()
    engine = engines.load()[given.engine]
    assert isinstance(engine.dialect, Dialect)
    work = Workload(input_tokens=16, output_tokens=given.tokens, load=(load(given.requests, given.slots),))
    with started_here(engine, work) as endpoint:
        taken = compared(endpoint, engine, work, given.repeats)
    machine = describe_machine()
    where = f"{machine['cpu']}, {machine['cores']} cores"
    print(f"{engine.title} {engine.tested_on('cpu')}, {where}; medians of {given.repeats},")
    print(f"{given.requests} requests of {given.tokens} tokens, {given.slots} in flight\n")
    print("\n".join(table(taken)))


def _model(dialect: Dialect) -> dict[str, Any]:
    return {"model": "bench"} if dialect.route.endswith("/completions") else {}


if __name__ == "__main__":
    main()
