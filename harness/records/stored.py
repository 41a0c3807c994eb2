"""JSON files of a results folder: written atomically, read according to their schema number."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from harness.errors import HarnessError
from harness.records.upgrade import CURRENT, upgraded

T = TypeVar("T")


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON atomically: into a temporary file beside `path`, then moved into place."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
    os.replace(part, path)


def read_stored(path: Path, kind: type[T]) -> T:
    """The content of `path`, upgraded from older schemas. Raises FileNotFoundError if it is missing, and HarnessError
    if it cannot be read or has a schema that this version does not know."""
    data = path.read_bytes()
    try:
        found = msgspec.json.decode(data)
        if not isinstance(found, dict):
            raise HarnessError(f"{path}: cannot be read: not a JSON object.")
        schema, newest = found.get("schema"), CURRENT[path.name]
        if not isinstance(schema, int) or not 1 <= schema <= newest:
            raise HarnessError(
                f"{path}: its schema is {schema!r}; this version reads 1 to {newest}. Read it with the version that "
                "wrote it, or a later one."
            )
        return msgspec.convert(upgraded(path.name, found), kind)
    except msgspec.MsgspecError as problem:
        raise HarnessError(f"{path}: cannot be read: {problem}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise HarnessError(f"{path}: cannot be read: {type(problem).__name__}: {problem}") from None
