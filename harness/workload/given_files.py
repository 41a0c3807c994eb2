"""Files that a user names: opened, and TOML read from them, with one line for each that cannot be read."""

from __future__ import annotations

import math
import os
import re
import stat
import tomllib
from datetime import date, time
from io import FileIO
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.visible import visible

MOST_TOML_BYTES = 1 << 20
MOST_DEPTH = 20  # tables and arrays inside one another
MOST_WHOLE = 2**63 - 1
# A key of so many parts. tomllib looks at every beginning of a key: the time grows with the square of the parts.
_LONG_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){40}""")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def file_named(folder: Path, name: str) -> Path:
    """The file of a name that was written in UTF-8, also where the locale has another encoding."""
    return folder / os.fsdecode(name.encode("utf-8", "surrogateescape"))


def check_folder(folder: Path) -> None:
    """Raises HarnessError for a folder whose name the locale does not have, or that is not UTF-8: Parquet files could
    not be written there, which would be seen only after the measurement."""
    try:
        str(folder).encode()
        os.fsencode(folder)
    except UnicodeEncodeError:
        raise HarnessError(
            f"{folder}: the name of this folder is not UTF-8, or this locale does not have its letters; set "
            "LC_ALL=C.UTF-8, or name another folder."
        ) from None


def open_file(path: Path, what: str, hint: str = "") -> FileIO:
    """Opens a file for reading. `what` it should be, such as `the trace`, and a `hint` are said if that fails. Raises
    HarnessError, also for a folder, and for a pipe or a device, whose end may never come."""
    reason = ""
    try:
        # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as problem:
        reason = problem.strerror or str(problem)
    except ValueError:  # a null character, or a letter that this locale does not have
        reason = "its name cannot be one of a file here"
    else:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode):
            return FileIO(descriptor, "rb")
        os.close(descriptor)
        reason = "it is a folder" if stat.S_ISDIR(mode) else "it is a pipe or a device, not a file"
    raise HarnessError(f"{visible(str(path), 500)}: cannot read {what} ({reason}).{hint}")


def read_toml(path: Path, what: str, hint: str = "") -> dict[str, Any]:
    """The content of a TOML file, which is UTF-8 by definition, whatever the locale is. Raises HarnessError for a file
    that is not TOML, is too large or too deep, or has a value that no key takes: a date, a number that is not finite
    or has more than 64 bits, a null character."""
    with open_file(path, what, hint) as file:
        try:
            data = file.read(MOST_TOML_BYTES + 1)
        except OSError as problem:
            raise HarnessError(f"{path}: cannot read {what} ({problem.strerror}).{hint}") from None
    if len(data) > MOST_TOML_BYTES:
        raise HarnessError(f"{path}: not {what}: it has more than {MOST_TOML_BYTES >> 20} MiB.")
    content = _parsed(data, path)
    _check_tree(content, path, "", 0)
    return content


def _parsed(data: bytes, path: Path) -> dict[str, Any]:
    if data.startswith(_UTF_16):
        raise HarnessError(f"{path}: not TOML: it is UTF-16 text; save it as UTF-8.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise HarnessError(f"{path}: not TOML: not UTF-8 text.") from None
    try:
        if not _LONG_KEY.search(text):
            return tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise HarnessError(f"{path}: not TOML: {visible(str(problem))}") from None
    except ValueError:  # Python reads no more digits than this
        raise HarnessError(f"{path}: it has a number of more than 4,300 digits.") from None
    except RecursionError:
        pass
    raise HarnessError(f"{path}: its tables or arrays are more than {MOST_DEPTH} deep.")


def _check_tree(value: Any, path: Path, place: str, depth: int) -> None:
    """Raises HarnessError for the first value that no key of any file takes."""
    where = f"{path}: {visible(place, 100)}"
    if depth > MOST_DEPTH:
        raise HarnessError(f"{where} is more than {MOST_DEPTH} tables or arrays deep.")
    if isinstance(value, dict):
        for key, inner in value.items():
            if "\0" in key:
                raise HarnessError(f"{where} has a key with a null character.")
            _check_tree(inner, path, f"{place}.{key}" if place else key, depth + 1)
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            _check_tree(inner, path, f"{place}[{i}]", depth + 1)
    elif isinstance(value, date | time):
        raise HarnessError(f"{where} is a date or a time, which no key takes; put a text into quotes.")
    elif isinstance(value, float) and not math.isfinite(value):
        raise HarnessError(f"{where} is {value}; a number must be finite.")
    elif isinstance(value, int) and abs(value) > MOST_WHOLE:
        raise HarnessError(f"{where} is a number of more than 64 bits.")
    elif isinstance(value, str) and "\0" in value:
        raise HarnessError(f"{where} has a null character.")
