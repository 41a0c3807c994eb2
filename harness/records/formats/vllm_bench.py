"""One run in the key names of `vllm bench serve --save-detailed`, which many tools read.

Same names, our definitions: a chunk without tokens does not count as the first one. Milliseconds in the
summary, seconds in the per-request lists, as that format has them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.records.chunks import Array, Groups, gaps, group
from harness.records.run import Manifest, RunResult

FILE = "vllm-bench.json"
REQUESTS_AT_ONCE = 4096  # whose gaps are in memory as Python numbers at a time

Floats = NDArray[np.float64]


def write_vllm_bench(folder: Path, run: RunResult) -> None:
    """Writes `vllm-bench.json` into `folder`, whole or not at all. The lists of gaps go to the file in pieces:
    as Python numbers, those of 10 million tokens would take half a gigabyte."""
    path = folder / FILE
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        write_json_object(file, run)
    os.replace(part, path)


def write_json_object(file: IO[bytes], run: RunResult) -> None:
    """The object, one key per line; statistics of an empty sample are null."""
    manifest, rows, chunks = run.manifest, run.requests, run.chunks
    groups = group(chunks)
    separator = b"{\n"
    for key, value in (summary(run, groups) | lists(run)).items():
        file.write(separator + _json(key) + b": " + _json(value))
        separator = b",\n"
    file.write(b',\n"itls": [')
    for number, lists_of_gaps in enumerate(_gaps_of_requests(chunks, groups, rows["index"])):
        file.write(b"," * (number > 0) + _json(lists_of_gaps)[1:-1])
    file.write(b'],\n"schedule_digest": ' + _json(manifest.schedule_digest) + b"\n}\n")


def summary(run: RunResult, groups: Groups) -> dict[str, Any]:
    """What stands at the top: the load, the totals over ok requests and the statistics."""
    manifest, rows = run.manifest, run.requests
    good = np.asarray(rows["status"] == "ok", dtype=np.bool_)
    sent, done = _floats(rows, "sent_s")[good], _floats(rows, "done_s")[good]
    duration = float(np.nanmax(done) - np.nanmin(sent)) if good.any() else None
    inputs, outputs = (int(rows[name][good].sum()) for name in ("sent_tokens", "output_tokens"))

    def rate(count: float) -> float | None:
        return count / duration if duration else None

    return {
        **load_keys(manifest),
        "num_prompts": len(good),
        "duration": duration,
        "completed": int(good.sum()),
        "failed": int(np.sum(~good & (rows["status"] != "cancelled"))),
        "total_input_tokens": inputs,
        "total_output_tokens": outputs,
        "request_throughput": rate(int(good.sum())),
        "request_goodput": None,  # no SLO was given
        "output_throughput": rate(outputs),
        "total_token_throughput": rate(inputs + outputs),
        **_statistics("ttft", _known(_floats(rows, "first_token_s")[good] - sent)),
        **_statistics("tpot", _known(_tpot(rows)[good])),
        **_statistics("itl", gaps(run.chunks, groups, np.isin(groups.index, rows["index"][good]))),
        **_statistics("e2el", _known(done - sent)),
    }


def load_keys(manifest: Manifest) -> dict[str, Any]:
    """Who was asked, and how: an offline batch and a closed loop have the rate "inf", as that tool writes it."""
    load = manifest.load
    rate = load.get("rate")
    keys = {
        "date": manifest.started_at,
        "endpoint_type": manifest.engine,
        "backend": manifest.engine,
        "label": f"{manifest.engine}-{manifest.load_point}",
        "model_id": manifest.model.get("name"),
        "tokenizer_id": manifest.model.get("name"),
        "request_rate": "inf" if rate is None else rate,
        "burstiness": load.get("burstiness", 1.0) if load.get("arrivals") == "gamma" else 1.0,
        "max_concurrency": load.get("batch") if manifest.concurrency is None else manifest.concurrency,
    }
    if load.get("arrivals") == "constant":
        keys["burstiness"] = None  # even arrivals: no finite shape of a gamma distribution
    if load.get("ramp_to") is not None:
        keys |= {"ramp_up_strategy": "linear", "ramp_up_start_rps": rate, "ramp_up_end_rps": load["ramp_to"]}
    return keys


def lists(run: RunResult) -> dict[str, Any]:
    """One entry per request, in the order of the schedule; null where it did not happen."""
    rows = run.requests
    sent = _floats(rows, "sent_s")
    return {
        "input_lens": _list(_floats(rows, "sent_tokens"), whole=True),
        "output_lens": _list(_floats(rows, "output_tokens"), whole=True),
        "ttfts": _list(_floats(rows, "first_token_s") - sent),
        "start_times": _list(sent),
        "latencies": _list(_floats(rows, "done_s") - sent),
        "queue_times": _list(sent - _floats(rows, "scheduled_s")),
        "generated_texts": [],  # not kept: token ids and counts are what is compared
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
        # Of n chunks the n - 1 gaps; what lies between two requests is left out by the slices.
        flat = (np.diff(arrival[rows]) / 1e9).tolist()
        yield [flat[begin : max(end - 1, begin)] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]


def _tpot(rows: Mapping[str, Array]) -> Floats:
    tokens = _floats(rows, "output_tokens") - _floats(rows, "first_event_tokens")
    span = _floats(rows, "last_token_s") - _floats(rows, "first_token_s")
    return np.asarray(np.divide(span, tokens, out=np.full(span.shape, np.nan), where=tokens >= 1))


def _floats(rows: Mapping[str, Array], name: str) -> Floats:
    return np.asarray(rows[name], dtype=np.float64)


def _known(values: Floats) -> Floats:
    return np.asarray(values[np.isfinite(values)])


def _list(values: Floats, whole: bool = False) -> list[float | int | None]:
    return [None if value != value else int(value) if whole else value for value in values.tolist()]


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _statistics(name: str, seconds: Floats) -> dict[str, float | None]:
    if not seconds.size:
        return {f"{kind}_{name}_ms": None for kind in ("mean", "median", "std", "p99")}
    median, p99 = np.percentile(seconds, [50, 99])
    return {
        f"mean_{name}_ms": float(seconds.mean()) * 1e3,
        f"median_{name}_ms": float(median) * 1e3,
        f"std_{name}_ms": float(seconds.std()) * 1e3,
        f"p99_{name}_ms": float(p99) * 1e3,
    }
