"""The values that fill the braces of a launch command, the same for every engine."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from harness.adapter import Device, Engine
from harness.errors import CannotStart
from harness.machine import usable_cores, visible_gpus
from harness.workload.profile import Profile
from harness.workload.spec import Workload

MEMORY_SHARE = 0.9
DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
KV_BLOCK_TOKENS = 64
SPARE_CONNECTIONS = 8  # for health and metrics pages, besides the measured requests


def settings(engine: Engine, profile: Profile, workload: Workload) -> dict[str, Any]:
    """The normalised settings: what every candidate must run with, under names that all engines share."""
    in_flight = max(map(workload.in_flight, workload.load), default=1)
    return {
        "context_tokens": profile.context_tokens,
        "concurrent_sequences": profile.concurrent_sequences,
        "batched_tokens": profile.batched_tokens,
        "kv_tokens": profile.kv_tokens,
        "threads": profile.threads or max(1, len(usable_cores()) - 1),
        "dtype": profile.dtype,
        "kv_dtype": engine.kv_dtypes.get(profile.dtype, profile.dtype),
        "prefix_cache": profile.prefix_cache,
        "input_tokens": workload.most_input_tokens,
        "output_tokens": workload.most_output_tokens,
        "connections": in_flight + SPARE_CONNECTIONS,
        "speculation": "off",
        "sampling": "greedy",
    }


def chosen_gpus(engine: Engine, device: Device, wanted: int, named: str | None = None) -> tuple[str, ...]:
    """The GPUs for this candidate, the first `wanted` of the usable ones; none on a CPU. `named`: its own
    CUDA_VISIBLE_DEVICES. Raises CannotStart if there are fewer, or if the engine cannot use that many."""
    if engine.null:
        return ()
    if device == "cpu":
        if wanted > 1:
            raise CannotStart(f"profile.gpus is {wanted}, but it runs on a CPU here")
        return ()
    there = visible_gpus(named)
    if wanted > len(there):
        raise CannotStart(f"profile.gpus is {wanted}, but {len(there)} can be used here ({', '.join(there) or 'none'})")
    if engine.most_gpus is not None and wanted > engine.most_gpus:
        raise CannotStart(f"profile.gpus is {wanted}, but it can split a model over {engine.most_gpus} at most")
    return there[:wanted]


@dataclass(frozen=True, slots=True)
class Places:
    """The paths that a launch needs. `env`: the engine's environment; `cache`: its own folder, kept between starts."""

    env: Path
    cache: Path
    program: str
    weights: Path
    cache_values: int | None  # numbers in the KV cache for one token, in every layer; None: not known


def launch_values(
    engine: Engine, table: Mapping[str, Any], places: Places, ports: tuple[int, int], gpus: tuple[str, ...]
) -> dict[str, object]:
    """The settings plus the values of this launch; `ports`: for HTTP and for gRPC. Raises CannotStart for a precision
    that the engine does not support."""
    dtype = table["dtype"]
    if dtype not in engine.dtypes:
        have = ", ".join(engine.dtypes)
        raise CannotStart(f"does not support {dtype}, only {have}; set profile.dtype to one of them")
    cores = usable_cores()[: table["threads"]]
    return {
        **table,
        "dtype_flag": engine.dtypes[dtype],
        "kv_flag": engine.dtypes[table["kv_dtype"]],
        "kv_blocks": -(-table["kv_tokens"] // KV_BLOCK_TOKENS),
        "kv_bytes": _kv_bytes(table, places.cache_values),
        "context_and_2": table["context_tokens"] + 2,
        "kv_and_2": table["kv_tokens"] + 2,
        "cores": ",".join(map(str, cores)),
        "env": places.env,
        "cache": places.cache,
        "program": places.program,
        "python": sys.executable,
        "model": places.weights,
        "port": ports[0],
        "grpc_port": ports[1],
        "gpus": max(1, len(gpus)),
        "gpu": ",".join(gpus) or "0",
        # A share of the machine's memory, so that an engine that uses too much is killed, and not another process.
        "memory": int(MEMORY_SHARE * psutil.virtual_memory().total),
    }


def _kv_bytes(table: Mapping[str, Any], cache_values: int | None) -> int | _NotKnown:
    """Bytes of a KV cache of so many tokens."""
    if cache_values is None:
        return _NotKnown(
            "config.json does not say how large the KV cache of a token is, which this engine must be told; add "
            "num_hidden_layers, num_key_value_heads and head_dim (to its text_config if there is one)"
        )
    return int(table["kv_tokens"] * cache_values * DTYPE_BYTES[table["kv_dtype"]])


class _NotKnown:
    """A value that only some engines are told: the others start without it."""

    def __init__(self, why: str) -> None:
        self.why = why

    def __format__(self, spec: str) -> str:
        raise CannotStart(self.why)
