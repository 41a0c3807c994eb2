"""One run in the key names of `vllm bench serve --save-detailed`, which many tools read.

The names are vLLM's, the definitions ours: a chunk without tokens is not the first token. Milliseconds in the summary
and seconds in the per-request lists, as in that format."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np

from harness.records.chunks import Array, Groups, gaps, group
from harness.records.latencies import (
    DISPATCH_DELAY,
    E2E,
    TTFT,
    Floats,
    failed_requests,
    floats,
    good_requests,
    known,
    ok_requests,
    percentile,
    seconds,
    tpot_of,
    whole_s,
)
from harness.records.manifest import Manifest
from harness.records.run import RunResult
from harness.workload.loads import Batches, OpenLoop

FILE = "vllm-bench.json"
REQUESTS_AT_ONCE = 4096  # whose gaps are converted to Python numbers at a time


def write_vllm_bench(folder: Path, run: RunResult) -> None:
    """Writes `vllm-bench.json` into `folder`, atomically. The lists of gaps are written in pieces: as Python numbers,
    the gaps of 10 million tokens would take half a gigabyte."""
    path = folder / FILE
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        write_json_object(file, run)
    os.replace(part, path)


def write_json_object(file: IO[bytes], run: RunResult) -> None:
    """Writes the object, one key per line; statistics of an empty sample are null."""
    rows, chunks = run.requests, run.chunks
    groups = group(chunks)
    separator = b"{\n"
    for key, value in (summary(run, groups) | lists(run)).items():
        file.write(separator + _json(key) + b": " + _json(value))
        separator = b",\n"
    file.write(b',\n"itls": [')
    for number, lists_of_gaps in enumerate(_gaps_of_requests(chunks, groups, rows["index"])):
        file.write(b"," * (number > 0) + _json(lists_of_gaps)[1:-1])
    file.write(b'],\n"schedule_digest": ' + _json(run.manifest.schedule.digest) + b"\n}\n")


def summary(run: RunResult, groups: Groups) -> dict[str, Any]:
    """The first keys: the load, the totals over ok requests and the statistics."""
    rows, good = run.requests, ok_requests(run)
    duration, slo = whole_s(run), run.manifest.slo
    inputs, outputs = (int(rows[name][good].sum()) for name in ("sent_tokens", "output_tokens"))

    def rate(count: float) -> float | None:
        return count / duration if duration else None

    return {
        **load_keys(run.manifest),
        "num_prompts": len(good),
        "duration": duration,
        "completed": int(good.sum()),
        "failed": int(failed_requests(run).sum()),
        "total_input_tokens": inputs,
        "total_output_tokens": outputs,
        "request_throughput": rate(int(good.sum())),
        "request_goodput": None if slo is None else rate(int(good_requests(run, slo).sum())),
        "output_throughput": rate(outputs),
        "total_token_throughput": rate(inputs + outputs),
        **_statistics("ttft", known(seconds(rows, *TTFT)[good])),
        **_statistics("tpot", known(tpot_of(rows)[good])),
        **_statistics("itl", gaps(run.chunks, groups, np.isin(groups.index, rows["index"][good]))),
        **_statistics("e2el", known(seconds(rows, *E2E)[good])),
    }


def load_keys(manifest: Manifest) -> dict[str, Any]:
    """The engine, the model and the load; an offline batch and a closed loop have the rate "inf", as in that tool."""
    load, candidate, model = manifest.load, manifest.candidate, manifest.model
    rate = load.rate if isinstance(load, OpenLoop) else None
    keys: dict[str, Any] = {
        "date": manifest.started_at,
        "endpoint_type": candidate.engine,
        "backend": candidate.engine,
        "label": f"{candidate.name}-{load.name}",
        "model_id": model.name,
        "tokenizer_id": model.name,
        "request_rate": "inf" if rate is None else rate,
        "burstiness": 1.0,
        "max_concurrency": load.batch if isinstance(load, Batches) else load.slots,
    }
    if isinstance(load, OpenLoop):
        # Constant arrivals are not a gamma distribution of any finite shape.
        keys["burstiness"] = None if load.arrivals == "constant" else load.burstiness
        if load.ramp_to is not None:
            keys |= {"ramp_up_strategy": "linear", "ramp_up_start_rps": rate, "ramp_up_end_rps": load.ramp_to}
    return keys


def lists(run: RunResult) -> dict[str, Any]:
    """One entry per request, in the order of the schedule; None if it did not happen."""
    rows = run.requests
    return {
        "input_lens": _list(floats(rows["sent_tokens"]), whole=True),
        "output_lens": _list(floats(rows["output_tokens"]), whole=True),
        "ttfts": _list(seconds(rows, *TTFT)),
        "start_times": _list(floats(rows["sent_s"])),
        "latencies": _list(seconds(rows, *E2E)),
        "queue_times": _list(seconds(rows, *DISPATCH_DELAY)),
        "generated_texts": [],  # not stored: token ids and counts are compared instead
        "errors": [error or "" for error in rows["error"]],
    }


def _gaps_of_requests(chunks: Mapping[str, Array], groups: Groups, index: Array) -> Iterator[list[list[float]]]:
    """The gaps of each request in seconds, some requests at a time."""
    arrival = chunks["arrival_ns"]
    size = int(index.max(initial=-1)) + 1
    start, count = np.zeros(size, np.int64), np.zeros(size, np.int64)
    start[groups.index], count[groups.index] = groups.start, groups.stop - groups.start
    for first in range(0, len(index), REQUESTS_AT_ONCE):
        wanted = index[first : first + REQUESTS_AT_ONCE]
        ends = np.cumsum(count[wanted])
        begins = ends - count[wanted]
        rows = np.arange(ends[-1]) + np.repeat(start[wanted] - begins, count[wanted])
        # n chunks have n - 1 gaps; the slices leave out the time between two requests.
        flat = (np.diff(arrival[rows]) / 1e9).tolist()
        yield [flat[begin : max(end - 1, begin)] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]


def _list(values: Floats, whole: bool = False) -> list[float | int | None]:
    return [None if value != value else int(value) if whole else value for value in values.tolist()]


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _statistics(name: str, values: Floats) -> dict[str, float | None]:
    if not values.size:
        return {f"{kind}_{name}_ms": None for kind in ("mean", "median", "std", "p99")}
    return {
        f"mean_{name}_ms": float(values.mean()) * 1e3,
        f"median_{name}_ms": _ms(percentile(values, 50)),
        f"std_{name}_ms": float(values.std()) * 1e3,
        f"p99_{name}_ms": _ms(percentile(values, 99)),
    }


def _ms(seconds_: float | None) -> float | None:
    return None if seconds_ is None else seconds_ * 1e3
