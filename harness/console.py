"""The standard streams as they really are: closed, or not in UTF-8."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
import unicodedata

# What stands for characters that an encoding lacks; one for one where possible, so that columns stay.
_INSTEAD = {"▲": "^", "▼": "v", "–": "-", "—": "-", "×": "x", "·": "|", "…": "...", "µ": "u", "²": "2", "≥": ">="}
_HANDLER = "harness-plain"


def ready() -> None:
    """Makes the three standard streams usable, whatever the environment: a comparison must not fail, after minutes of
    measuring, because its table has a character that the terminal's encoding lacks."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # closed: without this line the next file that is opened, a result, would get what is printed
            os.open(os.devnull, os.O_RDWR)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123
    codecs.register_error(_HANDLER, _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors=_HANDLER)


def _plain(problem: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(problem, UnicodeEncodeError):
        raise problem
    found = problem.object[problem.start : problem.end]
    return "".join(map(_instead, found)), problem.end


def _instead(character: str) -> str:
    if character in _INSTEAD:
        return _INSTEAD[character]
    bare = unicodedata.normalize("NFKD", character)
    return bare if bare.isascii() else character.encode("ascii", "backslashreplace").decode()
