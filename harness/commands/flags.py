"""How values of flags are read: each returns the value, or says in one line what the text is not."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import NoReturn, TypeVar

from harness.errors import HarnessError
from harness.visible import visible
from harness.workload import numbers

T = TypeVar("T")


def _read(read: Callable[[str], T], text: str, what: str) -> T:
    try:
        return read(text)
    except ValueError:
        raise ArgumentTypeError(f"'{visible(text, 40)}' is no {what}") from None


def whole(text: str) -> int:
    """A whole number."""
    return _read(numbers.whole, text, "whole number")


def decimal(text: str) -> float:
    """A finite number."""
    return _read(numbers.decimal, text, "number")


def lengths(text: str) -> object:
    """Tokens, or a range of them."""
    from harness.workload.lengths import parse_lengths

    return _read(parse_lengths, text, "number of tokens and no range such as 32:96")


def names(text: str | None) -> list[str]:
    """The names in a list that is separated by commas; none if the flag is missing or empty."""
    found = [name.strip() for name in text.split(",")] if text and text.strip() else []
    if "" in found:  # an unset variable of a shell: "$ONE,$TWO" would silently measure less, or everything
        raise HarnessError(f"--engines '{visible(text or '', 60)}': a name is empty.")
    return found


def field(text: str) -> tuple[str, object]:
    """NAME=JSON; a bare word is a string. Raises HarnessError for JSON that is broken, too deep or not JSON (NaN)."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise HarnessError(f"--field {visible(text, 60)}: write NAME=JSON, for example ignore_eos=true.")
    if not value:
        raise HarnessError(f"--field {text}: a value is missing; to leave the field out, write --no-field {name}.")
    where = f"--field {visible(name, 60)}"
    try:
        return name, json.loads(value, parse_constant=_no_json)
    except json.JSONDecodeError as problem:
        if value.lstrip()[:1] in ("{", "[", '"'):  # it would be sent as a text
            raise HarnessError(f"{where}: not JSON: {problem}.") from None
        return name, value
    except ValueError:  # Python reads no more digits than this
        raise HarnessError(f"{where}: a number that JSON cannot hold, or of more than 4,300 digits.") from None
    except RecursionError:
        raise HarnessError(f"{where}: its JSON is too deep.") from None


def _no_json(constant: str) -> NoReturn:
    raise ValueError(constant)
