"""From what the drivers brought back to the files of a run folder."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from harness.adapter import Parse
from harness.measure.decode import decode
from harness.measure.job import Replayed
from harness.records import RequestRecord, write_records
from harness.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the manifest says of a run besides what was asked."""

    start_ns: int  # this machine's monotonic clock at the run's zero
    duration_s: float
    client: dict[str, Any]


def record(
    folder: Path, replayed: Sequence[Replayed], schedule: Schedule, parse: Parse, secret: str | None = None
) -> Recorded:
    """Decodes every exchange into `requests.parquet` and `chunks.parquet`, and lets go of the raw bytes.

    `secret` is taken out of what a server may have echoed of it."""
    began = time.monotonic()
    records = decode(replayed, schedule, parse)
    gc.disable()  # millions of small objects and no cycle among them: the collector would look for some all the time
    try:
        table = write_records(folder, (_without(secret, r) for r in records) if secret else records)
    finally:
        gc.enable()
    for part in replayed:
        part.spool.close()
    reads = pc.sum(table["reads"]).as_py() or 0
    stamped = pc.sum(table["stamped_reads"]).as_py() or 0
    return Recorded(
        start_ns=replayed[0].start_ns,
        duration_s=max(part.wall_s for part in replayed),
        client={
            "cpu_s": sum(part.cpu_s for part in replayed),
            "workers": len(replayed),
            "decode_s": round(time.monotonic() - began, 3),
            "clock_steps": sum(len(part.steps_ns) for part in replayed),
            "kernel_stamped_fraction": stamped / reads if reads else 0.0,
        },
    )


def _without(secret: str, record: RequestRecord) -> RequestRecord:
    if record.error is None or secret not in record.error:
        return record
    return replace(record, error=record.error.replace(secret, "***"))
