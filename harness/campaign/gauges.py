"""Reads an engine's gauges (running, waiting, KV cache in use) about once a second, in a separate process.

In the driver's process, a page would be read and parsed while requests are in flight, and add to the client's lag."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from harness.adapter import Engine
from harness.campaign.prometheus import series_in
from harness.driver.address import Address
from harness.launch.endpoint import Endpoint
from harness.launch.pages import NoPage, Pages, success

INTERVAL_S = 1.0
_FIRST_S = 10.0  # to wait for the first reading: the process's start must not fall into a run
_PAGE_S = 5.0  # a page that takes longer counts as missed


@dataclass(frozen=True, slots=True)
class GaugePage:
    """What is read: our names of the gauges -> the engine's, on one page of a server."""

    address: Address
    path: str
    gauges: Mapping[str, str]
    key: str | None = None


@contextlib.contextmanager
def watching(endpoint: Endpoint, engine: Engine) -> Iterator[Path | None]:
    """Reads the gauges until the block is left; yields the file of the readings, JSON lines, or None for an engine
    without gauges."""
    if not engine.gauges:
        yield None
        return
    page = GaugePage(endpoint.pages, endpoint.pages.path + engine.metrics, engine.gauges, endpoint.key)
    with tempfile.TemporaryDirectory(prefix="gauges-") as folder:
        out = Path(folder) / "gauges.jsonl"
        with out.open("wb") as lines:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "harness.campaign.gauges"],
                stdin=subprocess.PIPE,
                stdout=lines,
                start_new_session=True,
            )
        assert process.stdin is not None
        try:
            # Over standard input, because a command line, with the API key in it, can be read by everyone.
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(msgspec.json.encode(page) + b"\n")
                process.stdin.flush()
            until = time.monotonic() + _FIRST_S
            while not out.stat().st_size and process.poll() is None and time.monotonic() < until:
                time.sleep(0.02)
            yield out
        finally:
            process.stdin.close()
            process.wait()


def read_gauges(readings: Path | None, start_ns: int, end_ns: int) -> list[tuple[float, str, float]]:
    """Rows (seconds since `start_ns`, name, value) of the readings between two monotonic times, as in
    `samples.parquet`: `engine_running`, `engine_waiting`, `engine_kv_used`."""
    rows = []
    for line in readings.read_text(encoding="utf-8").splitlines() if readings else ():
        with contextlib.suppress(ValueError):  # a line that is still being written
            reading: dict[str, Any] = json.loads(line)
            at = reading.pop("at_ns")
            if start_ns <= at <= end_ns:
                rows += [((at - start_ns) / 1e9, f"engine_{name}", float(value)) for name, value in reading.items()]
    return rows


def values_of(text: str, gauges: Mapping[str, str]) -> dict[str, float]:
    """The gauges on a page, summed over labels, a share (`kv_used`) averaged; without those that the page lacks."""
    shown = series_in(text, set(gauges.values()))
    found = {name: values for name, theirs in gauges.items() if (values := shown.get(theirs))}
    return {name: sum(values) / (len(values) if name == "kv_used" else 1) for name, values in found.items()}


def main() -> None:
    """Reads until standard input ends, which it does when the harness ends in any way."""
    page = msgspec.json.decode(sys.stdin.buffer.readline(), type=GaugePage)
    with Pages(page.address, page.key, _PAGE_S) as client:
        while True:
            asked_ns = time.monotonic_ns()
            found: dict[str, float] = {}
            with contextlib.suppress(NoPage):  # a missed reading is no fault of the run
                found = values_of(success(client.get(page.path)).text, page.gauges)
            # The page is of some moment between question and answer.
            at_ns = (asked_ns + time.monotonic_ns()) // 2
            print(json.dumps({"at_ns": at_ns, **found}), flush=True)
            if select.select([0], [], [], INTERVAL_S)[0]:
                return


if __name__ == "__main__":
    main()
