"""One run in the key names of `vllm bench serve --save-detailed`, which many tools read.

Same names, our definitions: a chunk without tokens does not count as the first one. Milliseconds in the
summary, seconds in the per-request lists, as that format has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.records import Manifest, RequestRecord


def vllm_bench(manifest: Manifest, records: Sequence[RequestRecord]) -> dict[str, Any]:
    """The JSON object; statistics of an empty sample are null."""
    good = [r for r in records if r.status == "ok"]
    sent = [r.sent_s for r in good if r.sent_s is not None]
    done = [r.done_s for r in good if r.done_s is not None]
    duration = max(done) - min(sent) if done and sent else None
    inputs, outputs = sum(r.sent_tokens for r in good), sum(r.output_tokens for r in good)

    def rate(count: float) -> float | None:
        return count / duration if duration else None

    samples = {
        "ttft": [ttft for r in good if (ttft := _ttft(r)) is not None],
        "tpot": [tpot for r in good if (tpot := _tpot(r)) is not None],
        "itl": [gap for r in good for gap in _gaps(r)],
        "e2el": [r.done_s - r.sent_s for r in good if r.done_s is not None and r.sent_s is not None],
    }
    return {
        "date": manifest.started_at,
        "endpoint_type": manifest.engine,
        "backend": manifest.engine,
        "label": f"{manifest.engine}-{manifest.load_point}",
        "model_id": manifest.model.get("name"),
        "tokenizer_id": manifest.model.get("name"),
        "num_prompts": len(records),
        "request_rate": "inf",
        "burstiness": 1.0,
        "max_concurrency": manifest.concurrency,
        "duration": duration,
        "completed": len(good),
        "failed": len(records) - len(good),
        "total_input_tokens": inputs,
        "total_output_tokens": outputs,
        "request_throughput": rate(len(good)),
        "output_throughput": rate(outputs),
        "total_token_throughput": rate(inputs + outputs),
        **{k: v for name, values in samples.items() for k, v in _statistics(name, values).items()},
        "input_lens": [r.sent_tokens for r in records],
        "output_lens": [r.output_tokens for r in records],
        "ttfts": [_ttft(r) for r in records],
        "itls": [_gaps(r) for r in records],
        "start_times": [r.sent_s for r in records],
        "generated_texts": [],  # not kept: token ids and counts are what is compared
        "errors": [r.error or "" for r in records],
        "schedule_digest": manifest.schedule_digest,
    }


def _ttft(record: RequestRecord) -> float | None:
    if record.first_token_s is None or record.sent_s is None:
        return None
    return record.first_token_s - record.sent_s


def _tpot(record: RequestRecord) -> float | None:
    later = record.output_tokens - (record.first_event_tokens or 0)
    if later < 1 or record.first_token_s is None or record.last_token_s is None:
        return None
    return (record.last_token_s - record.first_token_s) / later


def _gaps(record: RequestRecord) -> list[float]:
    times = [chunk.arrival_ns for chunk in record.chunks]
    return [(b - a) / 1e9 for a, b in zip(times, times[1:], strict=False)]


def _statistics(name: str, seconds: Sequence[float]) -> dict[str, float | None]:
    if not seconds:
        return {f"{kind}_{name}_ms": None for kind in ("mean", "median", "std", "p99")}
    ms = np.asarray(seconds) * 1e3
    return {
        f"mean_{name}_ms": float(ms.mean()),
        f"median_{name}_ms": float(np.median(ms)),
        f"std_{name}_ms": float(ms.std()),
        f"p99_{name}_ms": float(np.percentile(ms, 99)),
    }
