"""Parts of Markdown files."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], cells: Sequence[Sequence[str]], sides: str) -> str:
    """A table; `sides`: l or r for each column."""
    rule = ["---:" if side == "r" else "---" for side in sides]
    lines = [head, rule, *[[escaped(text) for text in row] for row in cells]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def bullets(lines: Sequence[str]) -> str:
    """A list."""
    return "\n".join(f"- {escaped(line)}" for line in lines)


def escaped(text: str) -> str:
    """Escapes a text so that it is not read as a table, HTML or emphasis."""
    flat = " ".join(text.split())
    for mark in "\\|<*`_":
        flat = flat.replace(mark, "\\" + mark)
    return flat
