"""Writes the files of a run folder."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from harness.decode.replay import Measured, hidden
from harness.records.formats.vllm_bench import write_vllm_bench
from harness.records.manifest import MANIFEST, ClientFacts, Manifest
from harness.records.request import RequestRecord
from harness.records.run import RunResult, open_run, write_records
from harness.records.samples import write_samples
from harness.records.stored import write_json


def record(folder: Path, run: Measured, secret: str | None = None) -> ClientFacts:
    """Writes every record into `requests.parquet` and `chunks.parquet`; returns the manifest's facts about the client.
    `secret` is removed from errors, where a server may have echoed it."""
    began = time.monotonic()
    gc.disable()  # millions of small objects without cycles: the collector would run all the time for nothing
    try:
        table = write_records(folder, (_without(secret, r) for r in run.records) if secret else run.records)
    finally:
        gc.enable()
    reads = pc.sum(table["reads"]).as_py() or 0
    stamped = pc.sum(table["stamped_reads"]).as_py() or 0
    return replace(
        run.client,
        decode_s=round(time.monotonic() - began, 3),
        kernel_stamped_fraction=stamped / reads if reads else 0.0,
    )


def seal(
    folder: Path, manifest: Manifest, samples: Sequence[tuple[float, str, float]], files: Mapping[str, Any]
) -> RunResult:
    """Completes the run folder that `record` began. `files`: JSON, text or bytes by name. The manifest is written last:
    a folder without one is not a finished run."""
    run = open_run(folder, manifest)
    write_samples(folder, samples)
    write_vllm_bench(folder, run)
    for name, content in files.items():
        if isinstance(content, bytes | str):
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        else:
            write_json(folder / name, content)
    write_json(folder / MANIFEST, manifest)
    return run


def _without(secret: str, record: RequestRecord) -> RequestRecord:
    if record.error is None or secret not in record.error:
        return record
    return replace(record, error=hidden(record.error, secret))
