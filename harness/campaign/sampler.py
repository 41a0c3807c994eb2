"""Samples what an engine takes of its machine, in a separate process.

In the driver's process, sampling would take the interpreter from the driver and add to the client's lag. How much CPU
time sampling itself took is one of the series."""

from __future__ import annotations

import contextlib
import json
import resource
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from harness.campaign.power_command import PowerCommand
from harness.campaign.rapl import Row, find_packages, sample_packages, with_energy
from harness.campaign.readers import Reader, Seen, of_gpus, of_processes
from harness.launch.endpoint import Endpoint

INTERVAL_S = 0.5


@dataclass(frozen=True, slots=True)
class Sampled:
    """What is sampled: the descendants of a process, GPUs by number or UUID, and a program that prints watts. `out`:
    the output file, JSON lines."""

    pid: int
    gpus: tuple[str, ...]
    out: str
    power_command: tuple[str, ...] = ()

    @staticmethod
    def of(endpoint: Endpoint, power_command: tuple[str, ...] = ()) -> Sampled | None:
        """None if the endpoint's processes cannot be seen from here."""
        if endpoint.pid is None or endpoint.log is None:
            return None
        out = endpoint.log.with_suffix(".samples")
        return Sampled(endpoint.pid, endpoint.gpus or (), str(out), power_command)


def readers_of(sampled: Sampled) -> list[Reader]:
    """The readers of what can be read at any time, from any process of ours."""
    return [of_processes(sampled.pid), of_gpus(sampled.gpus), sample_packages]


@contextlib.contextmanager
def sampling(sampled: Sampled) -> Iterator[None]:
    """Samples until the block is left."""
    with Path(sampled.out).open("wb") as lines:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "harness.campaign.sampler", json.dumps(asdict(sampled))],
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


def read_samples(sampled: Sampled | None, around: tuple[Seen, Seen], start_ns: int, end_ns: int) -> list[Row]:
    """Rows (seconds since `start_ns`, name, value) of the samples between the two monotonic times. `around`: one sample
    just before and one just after, because a run may be shorter than the interval."""
    before, after = around
    rows = [(0.0, name, float(value)) for name, value in before.items() if name != "at_ns"]
    rows += [((end_ns - start_ns) / 1e9, name, float(value)) for name, value in after.items() if name != "at_ns"]
    for line in Path(sampled.out).read_text(encoding="utf-8").splitlines() if sampled else ():
        with contextlib.suppress(ValueError):  # a line that is still being written
            one = json.loads(line)
            at = one.pop("at_ns")
            if start_ns <= at <= end_ns:
                rows += [((at - start_ns) / 1e9, name, float(value)) for name, value in one.items()]
    return with_energy(rows, {package.name: package.range_j for package in find_packages()})


def sample(readers: Sequence[Reader]) -> Seen:
    """One sample, now, with its monotonic time `at_ns`; empty if there is nothing to read."""
    at_ns = time.monotonic_ns()
    found: Seen = {}
    for read in readers:
        found |= read()
    return {"at_ns": at_ns, **found} if found else {}


def observe(sampled: Sampled | None) -> Seen:
    """One sample from this process; empty if the endpoint's processes cannot be seen."""
    return {} if sampled is None else sample(readers_of(sampled))


def _own_cpu_s(power: PowerCommand) -> float:
    """CPU seconds that sampling has taken so far, with the programs that it started."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used) + power.cpu_s()


def main(sampled: Sampled) -> None:
    """Samples until standard input ends, which it does when the harness ends in any way."""
    with PowerCommand(sampled.power_command) as power:
        readers = readers_of(sampled)
        if sampled.power_command:
            readers.append(power.read)
        readers.append(lambda: {"sampler_cpu_s": round(_own_cpu_s(power), 4)})
        while not select.select([0], [], [], INTERVAL_S)[0]:
            print(json.dumps(sample(readers)), flush=True)


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Sampled))
