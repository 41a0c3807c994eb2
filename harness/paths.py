"""Folders that persist between commands."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "HARNESS_CACHE"


def cache_folder() -> Path:
    """Engine environments and models, shared by every checkout: HARNESS_CACHE, else the XDG cache folder."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "inference-engine-comparison"
