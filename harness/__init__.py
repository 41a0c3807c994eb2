"""Replays identical workloads against several LLM inference engines and compares what they did."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.judge.comparison import compare
    from harness.records.comparison_folder import read_comparison
    from harness.records.metrics import METRICS
    from harness.records.run import read_run

__version__ = "0.1.0"
__all__ = ["METRICS", "compare", "read_comparison", "read_run"]

# Name -> its module. Imported on first use: numpy alone takes longer than `harness --help`.
_PUBLIC = {
    "METRICS": "harness.records.metrics",
    "compare": "harness.judge.comparison",
    "read_comparison": "harness.records.comparison_folder",
    "read_run": "harness.records.run",
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
