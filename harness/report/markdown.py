"""Parts of Markdown files."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Every mark that can begin something: a cell, HTML, emphasis, code, strike-through, a formula, an entity. A bracket
# alone begins nothing: intervals stay as they are; what follows it makes it a link, an image or a definition.
_MARKS = re.compile(r"([\\|<>*`_~$]|\](?=[(\[:])|&(?=#?\w+;))")
_START = re.compile(r"^([#+=-]|\[(?=[ xX]\])|\d{1,9}(?=[.)]))")  # a heading, a list, a rule, a box to tick
# Addresses become links without any mark (GitHub: http, https, ftp, www. and mail addresses).
_ADDRESS = re.compile(r"(?i)(?:https?|ftp|mailto|xmpp):|www\.|\b@(?=\w)")
_JOINER = "\u2060"  # no width, and no place to break a line


def table(head: Sequence[str], cells: Sequence[Sequence[str]], sides: str) -> str:
    """A table; `sides`: l or r for each column. `head` is Markdown, the cells are plain text."""
    rule = ["---:" if side == "r" else "---" for side in sides]
    lines = [head, rule, *[[_inline(text) for text in row] for row in cells]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def bullets(lines: Sequence[str]) -> str:
    """A list."""
    return "\n".join(f"- {escaped(line)}" for line in lines)


def escaped(text: str) -> str:
    """The text as a reader sees it, whatever is in it: no table, HTML, emphasis, list, link or image. An address stays
    readable and is no link: a server's error may not send its reader anywhere."""
    return _START.sub(_without_start, _inline(text))


def _inline(text: str) -> str:
    """The same within a line."""
    flat = _MARKS.sub(r"\\\1", " ".join(text.split()))
    return _ADDRESS.sub(lambda found: found[0][:-1] + _JOINER + found[0][-1], flat)


def _without_start(found: re.Match[str]) -> str:
    mark = found[0]
    return f"{mark}{_JOINER}" if mark.isdigit() else f"\\{mark}"
