"""JSON files of a results folder: written atomically, read according to their schema number."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from harness.errors import HarnessError
from harness.records.upgrade import CURRENT, upgraded
from harness.visible import visible

T = TypeVar("T")
LONGEST = 10_000  # characters of one text, such as an argument of a launch line; a longer one is no fact but a dump


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON atomically: into a temporary file beside `path`, then moved into place."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file that is either whole or not there: a full disk or a signal leaves the old one."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_stored(path: Path, kind: type[T]) -> T:
    """The content of `path`, upgraded from older schemas. Raises FileNotFoundError if it is missing, and HarnessError
    with the file, the field and one line if it cannot be read or has a schema that this version does not know."""
    try:
        found = json_object(path)
        schema, newest = found.get("schema"), CURRENT[path.name]
        if type(schema) is not int or not 1 <= schema <= newest:
            raise HarnessError(
                f"{path}: its schema is {visible(repr(schema), 20)}; this version reads 1 to {newest}. Read it with "
                "the version that wrote it, or a later one."
            )
        return msgspec.convert(_shown(upgraded(path.name, found)), kind)
    except msgspec.MsgspecError as problem:
        raise unreadable(path, problem) from None
    except KeyError as problem:
        raise HarnessError(f"{path}: cannot be read: {visible(str(problem))} is missing.") from None
    except RecursionError:
        raise HarnessError(f"{path}: cannot be read: nested too deeply.") from None
    except (TypeError, ValueError, AttributeError, ArithmeticError) as problem:
        raise HarnessError(f"{path}: cannot be read: {type(problem).__name__}: {visible(str(problem))}") from None


def json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises FileNotFoundError or NotADirectoryError if it is missing, HarnessError for what
    is no JSON object."""
    try:
        found = msgspec.json.decode(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as problem:
        raise HarnessError(f"{path}: cannot be read: {problem.strerror or problem}.") from None
    except RecursionError:
        raise HarnessError(f"{path}: cannot be read: nested too deeply.") from None
    except UnicodeDecodeError:
        raise HarnessError(f"{path}: cannot be read: not UTF-8.") from None
    except msgspec.MsgspecError as problem:
        raise unreadable(path, problem) from None
    if not isinstance(found, dict):
        raise HarnessError(f"{path}: cannot be read: not a JSON object.")
    return found


def unreadable(path: Path, problem: msgspec.MsgspecError) -> HarnessError:
    """The error for a field that is missing, of another type or out of range: `manifest.json: schedule.seed: ...`."""
    what, at, field = str(problem).rpartition(" - at `")
    place = f"{field.rstrip('`').removeprefix('$').lstrip('.')}: " if at else ""
    return HarnessError(f"{path}: cannot be read: {visible(place + (what if at else str(problem)))}.")


def _shown(value: Any) -> Any:
    """The same value with control characters shown: whoever edits or sends a results folder could otherwise clear the
    terminal of the one who looks at it."""
    if isinstance(value, str):
        return value if value.isprintable() and len(value) <= LONGEST else visible(value, LONGEST)
    if isinstance(value, dict):
        return {_shown(key): _shown(inner) for key, inner in value.items()}
    return [_shown(inner) for inner in value] if isinstance(value, list) else value
