"""What the driver must reach, and what it reached on this machine: the table of `make bench`.

Client and null server share the machine. The truth is the null server's log; CPU time is set against a C
program (floor.c) that only waits, reads and stamps, in the same run. Every row is the median of its rounds."""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.decode.exchange import decode
from harness.driver.address import Address
from harness.driver.connection import allow_connections
from harness.driver.http import by_ids, job_of
from harness.driver.workers import replay_split
from harness.machine import describe_machine
from harness.model.tokenizer import find_tokenizer
from harness.nullengine.calibrate import DIALECT, Errors, errors, key_of, null_server, read_truth
from harness.paths import cache_folder
from harness.records.request import RequestRecord
from harness.workload.schedule import Request, Schedule, build_schedule
from harness.workload.spec import Workload
from tests.bench.floor import run_floor
from tests.loads import load

HISTORY = Path(__file__).with_name("history.jsonl")
TTFT_S, INTERVAL_S, TOKENS = 0.050, 0.020, 64
SLOWER = 1.20  # of the history's median: said aloud
MS = 1e3


@dataclass(frozen=True, slots=True)
class Row:
    """One target: `got` must not exceed `limit`, or not fall below it where `at_least`."""

    load: str
    what: str
    unit: str
    limit: float
    got: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.got >= self.limit if self.at_least else self.got <= self.limit

    @property
    def key(self) -> str:
        return f"{self.load}: {self.what}"


@dataclass(frozen=True, slots=True)
class Round:
    """One replay against the null server."""

    records: Sequence[RequestRecord]
    errors: Errors
    cpu_s: float

    @property
    def tokens(self) -> int:
        return sum(r.output_tokens for r in self.records)

    @property
    def window_s(self) -> float:
        return max(r.done_s or 0.0 for r in self.records) - min(r.sent_s or 0.0 for r in self.records)

    def share_of_offered(self, streams: int, interval_s: float = INTERVAL_S) -> float:
        """Tokens/s reached over what the server's plan allows `streams` at a time."""
        each_s = TTFT_S + (TOKENS - 1) * interval_s
        waves = len(self.records) / streams
        # The window also holds the upload of the prompts, once a wave: it is no part of what was offered.
        upload_s = waves * float(np.mean([(r.uploaded_s or 0.0) - (r.sent_s or 0.0) for r in self.records]))
        return self.tokens / (self.window_s - upload_s) / (streams * TOKENS / each_s)


def replay_round(endpoint: Address, schedule: Schedule, workers: int, interval_s: float = INTERVAL_S) -> Round:
    """Replays and compares with the server's log. Raises RuntimeError where a request failed."""
    job = job_of(endpoint, by_ids(DIALECT), schedule, 120.0)
    replayed = replay_split(job, workers)
    records = list(decode(replayed, schedule, DIALECT.parse))
    for part in replayed:
        part.spool.close()
    if failed := [r.error for r in records if r.error]:
        raise RuntimeError(f"{len(failed)} requests failed: {failed[0]}")
    keys = {order.index: key_of(body_of(order.payload)) for order in job.orders}
    found = errors(records, keys, read_truth(endpoint), (TTFT_S, interval_s))
    return Round(records, found, sum(part.cpu_s for part in replayed))


def body_of(payload: bytes) -> bytes:
    return payload.split(b"\r\n\r\n", 1)[1]


def closed(streams: int, waves: int, prompt: int = 16) -> Schedule:
    """A closed loop of `streams`, each sending `waves` requests one after the other."""
    requests = (
        Request(i, tuple((i * 7919 + k * 31) % 8000 for k in range(prompt)), TOKENS) for i in range(streams * waves)
    )
    return Schedule(tuple(requests), streams)


def median_of(rounds: Sequence[Round], value: Callable[[Round], float]) -> float:
    return statistics.median(map(value, rounds))


def p(values: np.ndarray, q: float) -> float:
    return float(np.percentile(np.abs(values), q))


# -- the rows ----------------------------------------------------------------------------------------------


def streams_rows(streams: int, rounds: int, workers: int = 1, interval_s: float = INTERVAL_S) -> list[Row]:
    """256 and 1,024 streams."""
    few = streams <= 256
    with null_server(TTFT_S, interval_s) as endpoint:
        done = [replay_round(endpoint, closed(streams, 2), workers, interval_s) for _ in range(rounds)]
    name = f"{streams:,} streams" + suffix(workers, interval_s)
    rows = [
        Row(name, "TTFT p50, off the truth by", "ms", 0.8 if few else 1.5, median_of(done, ttft_off(50)) * MS),
        Row(name, "TTFT p99, off the truth by", "ms", 5.0 if few else 8.0, median_of(done, ttft_off(99)) * MS),
    ]
    if not few:
        rows += [
            Row(name, "TPOT p99, off the truth by", "ms", 0.3, median_of(done, lambda r: p(r.errors.tpot_s, 99)) * MS),
            Row(
                name,
                "offered tokens per second reached",
                "%",
                97.0,
                100 * median_of(done, lambda r: r.share_of_offered(streams, interval_s)),
                at_least=True,
            ),
        ]
    return rows


def ttft_off(q: float) -> Callable[[Round], float]:
    return lambda r: p(r.errors.ttft_s, q)


def suffix(workers: int, interval_s: float) -> str:
    return "" if workers == 1 else f", {workers} workers, token every {interval_s * MS:g} ms"


def cpu_rows(rounds: int) -> list[Row]:
    """CPU time of a streamed token, the driver's over the C program's mean of just before and just after."""
    schedule = closed(1024, 2)
    floors, ours = [], []
    with null_server(TTFT_S, INTERVAL_S) as endpoint, tempfile.TemporaryDirectory() as folder:
        payload = job_of(endpoint, by_ids(DIALECT), schedule, 60.0).orders[0].payload

        def floor_us() -> float:
            floor = run_floor(endpoint.port, 1024, 2048, payload, Path(folder))
            read_truth(endpoint)
            return float(1e6 * floor["cpu_s"] / floor["reads"])

        floors.append(floor_us())
        for _ in range(rounds):
            done = replay_round(endpoint, schedule, 1)
            ours.append(1e6 * done.cpu_s / done.tokens)
            floors.append(floor_us())
    ratios = sorted(2 * mine / (before + after) for mine, before, after in zip(ours, floors, floors[1:], strict=False))
    median = statistics.median(ratios)
    print(
        f"  CPU for each token at 1,024 streams: {statistics.median(ours):.1f} µs, the C program's "
        f"{statistics.median(floors):.1f} µs; {rounds} ratios of neighbouring rounds from {ratios[0]:.2f} to "
        f"{ratios[-1]:.2f}, the middle half from {ratios[rounds // 4]:.2f} to {ratios[-1 - rounds // 4]:.2f}"
    )
    return [Row("1,024 streams", "CPU per token over that of the C program", "x", 1.5, median)]


def long_prompt_rows(rounds: int) -> list[Row]:
    """64 streams with prompts of 50,000 tokens."""
    schedule = closed(64, 2, prompt=50_000)
    with null_server(TTFT_S, INTERVAL_S) as endpoint:
        done = [replay_round(endpoint, schedule, 1) for _ in range(rounds)]

    def after_upload(r: Round) -> float:
        net = [(x.first_token_s or 0.0) - (x.uploaded_s or 0.0) for x in r.records]
        return abs(float(np.median(net)) - float(np.median(r.errors.ttft_true_s)))

    def upload(r: Round) -> float:
        return float(np.median([(x.uploaded_s or 0.0) - (x.sent_s or 0.0) for x in r.records]))

    name = "64 streams, prompts of 50,000 tokens"
    print(f"  upload of a prompt of 50,000 tokens: {median_of(done, upload) * MS:.2f} ms at p50")
    return [
        Row(name, "TTFT less upload, p50, off the truth by", "ms", 3.0, median_of(done, after_upload) * MS),
        Row(
            name,
            "offered tokens per second reached",
            "%",
            97.0,
            100 * median_of(done, lambda r: r.share_of_offered(64)),
            at_least=True,
        ),
    ]


def poisson_rows(rounds: int, workers: int = 1) -> list[Row]:
    """Poisson arrivals at 500 requests/s for 5 s."""
    point = load(2500, rate=500.0)
    schedule = build_schedule(Workload(input_tokens=16, output_tokens=8, load=(point,)), point, 1, range(8000))
    with null_server(TTFT_S, INTERVAL_S) as endpoint:
        done = [replay_round(endpoint, schedule, workers) for _ in range(rounds)]

    def rate_off(r: Round) -> float:
        sent = [x.sent_s or 0.0 for x in r.records]
        return abs((len(sent) - 1) / (max(sent) - min(sent)) / 500.0 - 1)

    def delay(r: Round) -> float:
        return p(np.asarray([(x.sent_s or 0.0) - (x.scheduled_s or 0.0) for x in r.records]), 99)

    name = "Poisson, 500 requests/s" + ("" if workers == 1 else f", {workers} workers")
    return [
        Row(name, "achieved rate, off by", "%", 0.5, median_of(done, rate_off) * 100),
        Row(name, "dispatch delay p99", "ms", 2.0, median_of(done, delay) * MS),
    ]


def start_rows(rounds: int) -> list[Row]:
    """From the command to the first request, with 1,024 connections and a tokenizer."""
    harness = [sys.executable, "-m", "harness.cli"]
    tokenizer = str(find_tokenizer("tiny", cache_folder()))
    helps, starts = [], []
    with null_server(TTFT_S, INTERVAL_S) as endpoint, tempfile.TemporaryDirectory() as folder:
        for i in range(rounds):
            began = time.monotonic()
            subprocess.run([*harness, "--help"], check=True, stdout=subprocess.DEVNULL)
            helps.append(time.monotonic() - began)
            flags = ["--url", endpoint.url, "--engine", "openai", "--model", "bench", "--tokenizer", tokenizer]
            flags += ["--input-tokens", "16", "--output-tokens", "4", "--requests", "1024", "--concurrency", "1024"]
            began_ns = time.monotonic_ns()
            subprocess.run(
                [*harness, "replay", *flags, "--out", f"{folder}/{i}"], check=False, stdout=subprocess.DEVNULL
            )
            first = min(truth.arrived_ns for truth in read_truth(endpoint).values())
            starts.append((first - began_ns) / 1e9)
    return [
        Row("start", "command to first request, 1,024 connections", "s", 1.0, statistics.median(starts)),
        Row("start", "harness --help", "s", 0.3, statistics.median(helps)),
    ]


def memory_rows(tokens: int) -> list[Row]:
    """A run of many tokens through `harness replay`: memory of every process together, time to sum it up."""
    requests = tokens // TOKENS
    tokenizer = str(find_tokenizer("tiny", cache_folder()))
    with null_server(TTFT_S, INTERVAL_S) as endpoint, tempfile.TemporaryDirectory() as folder:
        flags = ["--url", endpoint.url, "--engine", "openai", "--model", "bench", "--tokenizer", tokenizer]
        flags += ["--input-tokens", "16", "--output-tokens", str(TOKENS), "--requests", str(requests)]
        command = [
            sys.executable,
            "-m",
            "harness.cli",
            "replay",
            *flags,
            "--concurrency",
            "1024",
            "--out",
            folder + "/r",
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        most = watch(process)
        manifest = json.loads(Path(folder, "r", "manifest.json").read_text())
        report = [sys.executable, "-c", SUM_UP, folder + "/r"]
        summed = json.loads(subprocess.run(report, check=True, capture_output=True, text=True).stdout)
        decoded_s = manifest["client"].get("decode_s")
    print(
        f"  {summed['chunks']:,} chunks recorded; raw bytes read back in {decoded_s} s, summed up in "
        f"{summed['seconds']:.1f} s with {summed['bytes'] / 2**20:.0f} MiB"
    )
    name = f"{tokens / 1e6:g} million tokens"
    return [
        Row(name, "memory of every process together", "GB", 1.0, max(most, summed["bytes"]) / 1e9),
        Row(name, "summed up", "s", 30.0, summed["seconds"]),
    ]


SUM_UP = """
import json, resource, sys, time
from pathlib import Path
began = time.monotonic()
from harness.report.single import judge_run
from harness.records.run import read_run
run = read_run(Path(sys.argv[1]))
judge_run(run)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"seconds": time.monotonic() - began, "bytes": peak, "chunks": len(run.chunks["index"])}))
"""


def watch(process: subprocess.Popen[bytes]) -> float:
    """The most memory that a process and its descendants held together, bytes."""
    import psutil

    root, most = psutil.Process(process.pid), 0.0
    while process.poll() is None:
        held = 0.0
        for one in [root, *root.children(recursive=True)]:
            try:
                held += one.memory_info().rss
            except psutil.Error:
                continue
        most = max(most, held)
        time.sleep(0.2)
    return most


# -- the table and its history -------------------------------------------------------------------------------


def table(rows: Iterable[Row], before: Sequence[dict[str, Any]]) -> str:
    """Markdown; `before`: earlier entries of the history on this kind of machine."""
    lines = ["| load | what | must | reached | | before |", "| --- | --- | ---: | ---: | --- | ---: |"]
    for row in rows:
        earlier = [entry["rows"][row.key] for entry in before if row.key in entry["rows"]]
        past = f"{statistics.median(earlier):.3g}" if earlier else ""
        must = f"{'≥' if row.at_least else '≤'} {row.limit:g} {row.unit}"
        verdict = "met" if row.met else "**missed**"
        lines.append(f"| {row.load} | {row.what} | {must} | {row.got:.3g} {row.unit} | {verdict} | {past} |")
    return "\n".join(lines)


def slower(rows: Iterable[Row], before: Sequence[dict[str, Any]]) -> list[str]:
    """Rows whose CPU ratio, the one figure that a busy machine bends little, is worse than it was."""
    found = []
    for row in rows:
        earlier = [entry["rows"][row.key] for entry in before if row.unit == "x" and row.key in entry["rows"]]
        if earlier and row.got > SLOWER * statistics.median(earlier):
            found.append(f"slower than before: {row.key} {row.got:.2f}, before {statistics.median(earlier):.2f}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=10_000_000, help="of the long run; 0 leaves it out")
    parser.add_argument("--save", action="store_true", help="append to the history")
    asked = parser.parse_args()
    allow_connections()
    machine = describe_machine()
    steps: list[tuple[str, Callable[[], list[Row]]]] = [
        ("256 streams", lambda: streams_rows(256, asked.rounds)),
        ("1,024 streams", lambda: streams_rows(1024, asked.rounds)),
        ("CPU", lambda: cpu_rows(3 * asked.rounds)),  # a neighbour of one of the two bends the ratio
        ("long prompts", lambda: long_prompt_rows(asked.rounds)),
        ("Poisson", lambda: poisson_rows(asked.rounds)),
        ("start", lambda: start_rows(asked.rounds)),
        ("2 workers, 256 streams", lambda: streams_rows(256, asked.rounds, 2, 2 * INTERVAL_S)),
        ("2 workers, 1,024 streams", lambda: streams_rows(1024, asked.rounds, 2, 2 * INTERVAL_S)),
        ("2 workers, Poisson", lambda: poisson_rows(asked.rounds, 2)),
    ]
    if asked.tokens:
        steps.append((f"{asked.tokens:,} tokens", lambda: memory_rows(asked.tokens)))
    rows: list[Row] = []
    for i, (name, step) in enumerate(steps, 1):
        print(f"[{i}/{len(steps)}] {name}", flush=True)
        rows += step()
    past = [json.loads(line) for line in HISTORY.read_text().splitlines()] if HISTORY.is_file() else []
    before = [entry for entry in past if entry["cpu"] == machine["cpu"] and entry["cores"] == machine["cores"]]
    today = datetime.date.today().isoformat()
    print(
        f"\n{today}, {machine['cores']} cores {machine['cpu']}, {asked.rounds} rounds, client and server share them\n"
    )
    print(table(rows, before))
    print("\n".join(warnings := slower(rows, before)))
    if asked.save:
        entry = {"date": today, "cpu": machine["cpu"], "cores": machine["cores"], "python": machine["python"]}
        with HISTORY.open("a") as history:
            history.write(json.dumps({**entry, "rows": {row.key: round(row.got, 4) for row in rows}}) + "\n")
    return 0 if all(row.met for row in rows) and not warnings else 1


if __name__ == "__main__":
    sys.exit(main())
