"""Servers that speak as the engines do, written from the engines' own sources and documents and not from
their files here: each side would find the other's misreading. One module per engine, which nothing lists."""

from __future__ import annotations

import importlib
import pkgutil

from tests.wire_engines.dialect import WireDialect


def load() -> dict[str, WireDialect]:
    """Every dialect by the name of its engine."""
    names = [m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("test_")]
    modules = (importlib.import_module(f"{__name__}.{name}") for name in names)
    return {m.__name__.rpartition(".")[2]: m.DIALECT for m in modules if hasattr(m, "DIALECT")}
