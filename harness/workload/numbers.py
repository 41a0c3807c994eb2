"""Numbers as people write them on a command line and in data files: decimal digits only."""

from __future__ import annotations

import re

MOST_DIGITS = 18  # of a whole number: below 64 bits
_WHOLE = re.compile(r"[+-]?[0-9]+(?:_[0-9]+)*")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:_[0-9]+)*(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")


def whole(text: str) -> int:
    """`1000` or, as in TOML, `1_000`. Raises ValueError for anything else, such as `1e3`, digits of other scripts, and
    more than 18 digits."""
    if not _WHOLE.fullmatch(text) or len(text) > 2 * MOST_DIGITS or sum(map(str.isdigit, text)) > MOST_DIGITS:
        raise ValueError(text)
    return int(text)


def decimal(text: str) -> float:
    """`0.5`, `1e3` or `1_000.5`. Raises ValueError for anything else, such as `nan`, `inf` and digits of other
    scripts."""
    value = float(text) if _DECIMAL.fullmatch(text) else float("inf")
    if abs(value) == float("inf"):
        raise ValueError(text)
    return value
