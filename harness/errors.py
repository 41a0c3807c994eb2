"""The harness's errors: each is one line with what went wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from harness.visible import visible

DONE, INVALID_CELLS, BAD_INPUT, NOTHING_STARTED, OUR_FAULT, INTERRUPTED = 0, 1, 2, 3, 70, 130
LONGEST = 4000  # characters of an error
REGRESSION = 1  # against an earlier comparison


class HarnessError(Exception):
    """Ends the command with one line on stderr and `exit_status`. Names and messages of others that are in `line` are
    made safe to print here, once for all errors."""

    exit_status = BAD_INPUT

    def __init__(self, line: str) -> None:
        super().__init__(visible(line, LONGEST))


class CannotStart(HarnessError):
    """This candidate cannot be installed, started or verified here; the others go on."""

    exit_status = NOTHING_STARTED


class Stopped(HarnessError):
    """Ctrl-C; what was measured so far is kept."""

    exit_status = INTERRUPTED


class NotComparable(HarnessError):
    """These runs answer different questions."""


def unknown(kind: str, name: str, allowed: Iterable[str], where: str = "") -> HarnessError:
    """The error for a name outside `allowed`, with the nearest match if there is one."""
    options, name = sorted(allowed), visible(name, 100)
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    place = f"{where}: " if where else ""
    return HarnessError(f"{place}unknown {kind} '{name}'.{hint} Allowed: {', '.join(options)}.")
