"""Loads as a comparison file writes them."""

from __future__ import annotations

from typing import Any

from harness.workload.load_keys import LoadKeys, load_of
from harness.workload.loads import Load


def load(requests: int | None = None, concurrency: int | None = None, **keys: Any) -> Load:
    """The load that these keys of a comparison file mean."""
    return load_of(LoadKeys(requests=requests, concurrency=concurrency, **keys), "test", str)
