"""Folders that persist between commands."""

from __future__ import annotations

import os
from pathlib import Path

from harness.errors import HarnessError

CACHE_VARIABLE = "HARNESS_CACHE"


def cache_folder() -> Path:
    """Engine environments and models, shared by every checkout: HARNESS_CACHE, else the XDG cache folder. Raises
    HarnessError if it cannot be made."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    chosen = os.environ.get(CACHE_VARIABLE)
    folder = Path(chosen).expanduser().absolute() if chosen else base / "inference-engine-comparison"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise HarnessError(
            f"{folder}: cannot be the cache folder ({problem.strerror}); set {CACHE_VARIABLE} to another."
        ) from None
    return folder
