"""What load generators report against what a server did: this project's driver beside its peers.

    python -m tests.bench.peers [--streams 1024] [--requests 2048] [--out DIR]

Each client puts the same closed-loop load on one null server, one client after the other. What it reports is
read from its own result file; what was true, of that very run, from the server's log."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

from harness.errors import DONE, INTERRUPTED, HarnessError
from harness.launch.running import tail
from harness.machine import describe_machine
from harness.model.resolve import resolve
from harness.paths import cache_folder
from harness.steps import Say, telling_line
from tests.bench.peer_clients import CLIENTS, Client, Failed, Figures, Load, Server, Task, version_of
from tests.bench.peer_server import Truth, end, fetch_truth, null_server, truth_of

LIMIT_S = 600.0  # for one client, its start and its own evaluation included
SOME_MISSING = 1


# -- one client after the other --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """A client's line of the table; without figures, `why` says what went wrong."""

    client: str
    version: str = ""
    reported: Figures | None = None
    truth: Truth | None = None
    seconds: float | None = None
    others_cores: float | None = None  # what processes outside this measurement used meanwhile
    command: str = ""
    why: str = ""


def run_guarded(command: Sequence[str], env: Mapping[str, str], log: Path) -> int:
    """A client's exit status. The guard ends all its processes when it is done, late, or interrupted."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.launch.guard", *command],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **env},
            start_new_session=True,
        )
    try:
        return process.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        raise Failed(f"not done after {LIMIT_S:g} s") from None
    finally:
        end(process)


def others_cpu_s(server: Server) -> float:
    """CPU seconds since the machine started that went to none of ours: other processes, and other guests of a
    virtual machine's host. Of ours only those count that have ended, so read it between clients."""
    machine = psutil.cpu_times()
    taken = machine.user + machine.nice + machine.system + getattr(machine, "steal", 0.0)
    served = psutil.Process(server.pid).cpu_times()
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return float(taken - served.user - served.system - sum(usage.ru_utime + usage.ru_stime for usage in own))


def measure(client: Client, env: Path, task: Task, row: Row) -> Row:
    """The row with its figures. Raises Failed."""
    fetch_truth(task.server.url)
    command = client.command(env, task)
    log = task.out / "log.txt"
    others_s = others_cpu_s(task.server)
    with tempfile.TemporaryDirectory(prefix="peers-", ignore_cleanup_errors=True) as scratch:
        began = time.monotonic()
        status = run_guarded(command, {**client.env, "TMPDIR": scratch}, log)
        seconds = time.monotonic() - began
    if status not in client.measured:
        raise Failed(f"exit status {status}: {telling_line(tail(log))}")
    others_cores = max(0.0, others_cpu_s(task.server) - others_s) / seconds
    truth = truth_of(fetch_truth(task.server.url), task.load)
    try:
        reported = client.read(task.out)
    except (OSError, KeyError, IndexError, TypeError, ValueError) as problem:
        raise Failed(f"its result file cannot be read ({type(problem).__name__}: {problem})") from None
    return replace(
        row,
        reported=reported,
        truth=truth,
        seconds=seconds,
        others_cores=others_cores,
        command=shlex.join(command),
    )


def prepare_all(names: Sequence[str], say: Say) -> dict[str, Path | str]:
    """Each client's environment, or why it has none; before anything is measured, for pip takes the cores."""
    steps: set[str] = set()

    def say_once(line: str) -> None:
        """An installation says a line for every package; its steps are enough here."""
        step = line.partition(": ")[0]
        if step not in steps:
            steps.add(step)
            say(step)

    found: dict[str, Path | str] = {}
    for name in names:
        try:
            found[name] = CLIENTS[name].prepare(cache_folder(), say_once)
        except (HarnessError, KeyError) as problem:
            found[name] = f"not installed: {problem}"
    return found


def measure_all(names: Sequence[str], load: Load, folder: Path, say: Say) -> list[Row]:
    environments = prepare_all(names, say)
    tokenizer = resolve("tiny", cache_folder()).folder
    rows = []
    with null_server(load, folder / "server.txt") as server:
        for name in names:
            say(f"{CLIENTS[name].title}: running")
            out = folder / name
            out.mkdir(parents=True)
            rows.append(measure_one(CLIENTS[name], environments[name], Task(load, server, tokenizer, out)))
            say(one_line(rows[-1]))
    return rows


def measure_one(client: Client, env: Path | str, task: Task) -> Row:
    if isinstance(env, str):
        return Row(client.title, why=env)
    row = Row(client.title, version_of(client, env))
    try:
        return measure(client, env, task, row)
    except (Failed, httpx.HTTPError) as problem:
        return replace(row, why=str(problem))


def raise_open_files(streams: int) -> None:
    """For this process and all that it starts: a socket for each stream, at both ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 1 << 16 if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < streams + 256:
        raise HarnessError(f"{streams} streams need more than the {most} open files allowed here; see ulimit -Hn")


# -- the page --------------------------------------------------------------------------------------------

HEADS = ("client", "TTFT p50, ms", "TTFT p99, ms", "TPOT p99, ms", "output tokens/s", "peak streams", "requests")


def one_line(row: Row) -> str:
    return f"{row.client}: {row.why or f'done in {row.seconds:.0f} s'}"


def cells(row: Row) -> list[str]:
    """`reported / true` in each."""
    name = f"{row.client} {row.version}".strip()
    if row.reported is None or row.truth is None:
        return [name, row.why.replace("|", "/")]
    said, true = row.reported, row.truth.figures
    cut = f" (+ {row.truth.cut} cut)" if row.truth.cut else ""
    return [
        name,
        f"{said.ttft_p50_ms:.1f} / {true.ttft_p50_ms:.1f}",
        f"{said.ttft_p99_ms:.1f} / {true.ttft_p99_ms:.1f}",
        f"{said.tpot_p99_ms:.2f} / {true.tpot_p99_ms:.2f}",
        f"{said.output_tokens_per_s:,.0f} / {true.output_tokens_per_s:,.0f}",
        f"{row.truth.peak_streams:,}",
        f"{said.requests:,} / {true.requests:,}{cut}",
    ]


def table(rows: Sequence[Row]) -> list[str]:
    """Markdown that is also aligned on a terminal; a reason takes the rest of its line."""
    lines = [list(HEADS), *map(cells, rows)]
    full = [line for line in lines if len(line) == len(HEADS)]
    widths = [max(len(line[i]) for line in full) for i in range(len(HEADS))]
    widths[0] = max(len(line[0]) for line in lines)
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return ["| " + " | ".join(_padded(line, widths)) + " |" for line in [lines[0], rule, *lines[1:]]]


def _padded(line: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for i, (text, width) in enumerate(zip(line, widths, strict=False)):
        yield text.ljust(width) if i == 0 else text.rjust(width)


def facts(load: Load, names: Sequence[str], load_average: float) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.executable).name, "-m", "tests.bench.peers", *sys.argv[1:]]),
        "machine": describe_machine(),
        "load_average": load_average,
        "load": asdict(load),
        "clients": list(names),
    }


def page(rows: Sequence[Row], load: Load, known: Mapping[str, Any]) -> str:
    machine = known["machine"]
    memory = machine["memory_bytes"] / 2**30
    system = f"{machine['cpu']}, {machine['cores']} cores, {memory:.0f} GiB, {machine['system']}"
    own_tpot = [f"  - {c.title}: {c.tpot}." for c in (CLIENTS[name] for name in known["clients"])]
    others = [f"{row.others_cores:.2f} ({row.client})" for row in rows if row.others_cores is not None]
    return "\n".join(
        [
            "# Clients against a ground-truth server",
            "",
            f"{load.in_words()}.",
            "",
            *table(rows),
            "",
            "- Each cell: what the client reports / what the server's log of that same run says.",
            "- True TTFT: from the moment the server's kernel had the whole request to just before the server wrote "
            "the first token; true TPOT: (last write - first write) / (tokens - 1); output tokens/s: from the first "
            "request read to the last token written; peak streams: answered at the same time, by that log. Percentiles "
            "over requests, linear between ranks.",
            "- The p99 of TPOT is over each request's own mean, as each client computes it:",
            *own_tpot,
            "- Server and client share the machine: part of a difference is the client's own use of the cores. "
            f"Cores that others used meanwhile: {', '.join(others) or 'not known'}.",
            f"- Machine: {system}; Python {machine['python']}; load average {known['load_average']:.2f} at the start.",
            f"- {known['date']}: `{known['command']}`",
            "",
        ]
    )


def _write(rows: Sequence[Row], text: str, known: Mapping[str, Any], folder: Path) -> None:
    (folder / "peers.md").write_text(text)
    (folder / "peers.json").write_text(json.dumps({**known, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in CLIENTS]:
        raise argparse.ArgumentTypeError(f"unknown client {unknown[0]!r}; known: {', '.join(CLIENTS)}")
    return names


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=1024, help="at once (default %(default)s)")
    parser.add_argument("--requests", type=int, help="of each client (default two per stream)")
    parser.add_argument("--clients", type=_names, default=list(CLIENTS), help=f"of {','.join(CLIENTS)} (default all)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="new folder for the table and each client's own files")
    asked = parser.parse_args()
    if asked.streams < 1 or (asked.requests is not None and asked.requests < 1):
        parser.error("--streams and --requests start at 1")
    if asked.out is not None and asked.out.exists() and any(asked.out.iterdir()):
        parser.error(f"{asked.out} is not empty")
    return asked


def main() -> int:
    asked = _arguments()
    load = Load(asked.streams, asked.requests or 2 * asked.streams)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with contextlib.ExitStack() as stack:
        kept = asked.out.absolute() if asked.out else None
        folder = kept or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peers-")))
        folder.mkdir(parents=True, exist_ok=True)
        try:
            raise_open_files(load.streams)
            known = facts(load, asked.clients, os.getloadavg()[0])
            rows = measure_all(asked.clients, load, folder, say)
        except HarnessError as problem:
            say(str(problem))
            return problem.exit_status
        except KeyboardInterrupt:
            say("interrupted; nothing is left running")
            return INTERRUPTED
        text = page(rows, load, known)
        print(text)
        if kept:
            _write(rows, text, known, kept)
    return DONE if all(row.reported for row in rows) else SOME_MISSING


if __name__ == "__main__":
    sys.exit(main())
