"""One file per engine, each with one `ENGINE` value. A new file here is a new engine; there is no list to edit."""

from __future__ import annotations

import importlib
import pkgutil

from harness.adapter import Engine


def load() -> dict[str, Engine]:
    """Every engine by name, in alphabetical order."""
    names = sorted(m.name for m in pkgutil.iter_modules(__path__))
    found = (importlib.import_module(f"{__name__}.{name}").ENGINE for name in names)
    return {engine.name: engine for engine in found}
