"""Folders that persist between commands."""

from __future__ import annotations

import os
from pathlib import Path

from harness.errors import HarnessError

CACHE_VARIABLE = "HARNESS_CACHE"
_NAME = "inference-engine-comparison"


def cache_folder() -> Path:
    """Engine environments and models, shared by every checkout: HARNESS_CACHE, else the XDG cache folder. Raises
    HarnessError if it cannot be made."""
    folder = _cache()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise HarnessError(
            f"{folder}: cannot be the cache folder ({problem.strerror}); set {CACHE_VARIABLE} to another."
        ) from None
    return folder


def _cache() -> Path:
    if chosen := os.environ.get(CACHE_VARIABLE):
        return expanded(chosen).absolute()
    # The XDG specification: a relative path is invalid and to be ignored.
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        base = expanded("~/.cache")
        if not base.is_absolute():
            raise HarnessError(f"this user has no home folder (HOME is not set): set {CACHE_VARIABLE} to a folder.")
    return base / _NAME


def expanded(name: str) -> Path:
    """The path with `~` as the home folder; unchanged where there is none, as for a user whom the system does not
    know."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def cache_hint(file: object) -> str:
    """What to add to an error about a file if it lies in the cache folder; else empty."""
    try:
        within = isinstance(file, str) and Path(file).is_relative_to(_cache())
    except HarnessError:
        within = False
    return f"; set {CACHE_VARIABLE} to a folder that can be written" if within else ""
