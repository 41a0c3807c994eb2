"""Text from outside, such as a server's message or a file's name, made safe to print, once, where it enters."""

from __future__ import annotations

import unicodedata

SHOWN = 200  # characters of a server's message that are kept: the cause, and not 10 MB of a page
# Control characters, invisible ones that turn the direction of a line, half a character, and line separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def visible(text: str, limit: int | None = SHOWN) -> str:
    """`text` in one line: blanks and line ends are one blank each, other control characters are shown as \\x1b, and
    what is beyond `limit` characters is left out with a word on how much that was. None: nothing is left out.

    Without this a server's message could clear the terminal or set its title."""
    size = len(text)
    if limit is not None and size > limit:
        text = text[: 4 * limit]  # so that a message of 10 MB costs no time; its blanks may still shrink
    line = " ".join(text.split())
    shown = line if line.isascii() and line.isprintable() else "".join(map(_shown, line))
    if limit is None or (len(shown) <= limit and size <= 4 * limit):
        return shown
    return f"{shown[:limit].rstrip()}... ({size} characters)"


def _shown(character: str) -> str:
    if unicodedata.category(character) in _HIDDEN:
        code = ord(character)
        return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    return character
