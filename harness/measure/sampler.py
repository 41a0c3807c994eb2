"""Samples the CPU time and memory of a process tree, in a process of its own.

In the driver's process the sampling would take the interpreter from the driver while tokens arrive."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

INTERVAL_S = 0.5


@contextlib.contextmanager
def sampling(pid: int | None, out: Path) -> Iterator[None]:
    """Samples the tree under `pid` into `out`, a JSON object a line, until the block is left; null: nothing
    can be seen of it."""
    if pid is None:
        out.write_bytes(b"")
        yield
        return
    with out.open("wb") as lines:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.measure.sampler", str(pid)],
            stdin=subprocess.PIPE,
            stdout=lines,
            start_new_session=True,
        )
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def read_samples(out: Path, start_ns: int, end_ns: int) -> list[tuple[float, str, float]]:
    """Rows (seconds since `start_ns`, name, value) of the samples between the two monotonic times."""
    rows = []
    for line in out.read_text().splitlines():
        with contextlib.suppress(ValueError):  # the line that is being written just now
            sample = json.loads(line)
            at = sample.pop("at_ns")
            if start_ns <= at <= end_ns:
                rows += [((at - start_ns) / 1e9, name, float(value)) for name, value in sample.items()]
    return rows


def sample(processes: Sequence[psutil.Process]) -> dict[str, float]:
    """CPU seconds so far and resident bytes, summed over processes; shared pages count more than once."""
    cpu = rss = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error), process.oneshot():
            times = process.cpu_times()
            cpu += times.user + times.system
            rss += process.memory_info().rss
    return {"at_ns": time.monotonic_ns(), "engine_cpu_s": round(cpu, 3), "engine_rss_bytes": rss}


def main(pid: int) -> None:
    """Until standard input ends: with the harness, however it ends."""
    while not select.select([0], [], [], INTERVAL_S)[0]:
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            print(json.dumps(sample(root.children(recursive=True))), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
