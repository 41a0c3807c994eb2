"""Writes the files of a run folder."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from harness.decode.replay import Measured
from harness.records.formats.vllm_bench import write_vllm_bench
from harness.records.manifest import MANIFEST, ClientFacts, Manifest
from harness.records.request import RequestRecord
from harness.records.run import RunResult, open_run, write_records
from harness.records.samples import write_samples
from harness.records.stored import write_json
from harness.redact import Secret


def record(folder: Path, run: Measured, secret: str | None = None) -> ClientFacts:
    """Writes every record into `requests.parquet` and `chunks.parquet`; returns the manifest's facts about the client.
    `secret` is removed from every text, where a server may have echoed it."""
    began, hider = time.monotonic(), Secret(secret)
    gc.disable()  # millions of small objects without cycles: the collector would run all the time for nothing
    try:
        table = write_records(folder, (_without(hider, r) for r in run.records) if secret else run.records)
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


def _without(secret: Secret, record: RequestRecord) -> RequestRecord:
    """Records over HTTP have been read without the key; those over gRPC have not."""
    if record.error is None and record.finish_reason in (None, "length", "stop"):
        return record
    error, reason = (text and secret.hide(text) for text in (record.error, record.finish_reason))
    return replace(record, error=error, finish_reason=reason)
