"""What the terminal shows while a comparison runs: one status line, and a log above it.

No refresh thread: it would take the interpreter from the driver during a run, and inflate the client's lag."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterable
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from harness.visible import visible

WIDTH = 110  # off a terminal: as wide as the tables need
_LEAST = 40  # a table in fewer columns has one letter a line
_PLAIN_EVERY_S = 20.0
_TERMINAL = 1000  # characters of a status line on a terminal, which shows one line of it
_PLAIN_WIDTH = 200  # characters of a status line off a terminal; pip lists a hundred packages in one line


class SafeConsole(Console):
    """A console on which text from outside has no power: no markup, no emoji names, and control characters are shown,
    so that a server's message cannot clear the terminal, set its title or write a link."""

    def __init__(self, width: int | None = None) -> None:
        super().__init__(markup=False, emoji=False, width=width)
        if width is None and not self.is_terminal:
            self.width = WIDTH
        elif self.width < _LEAST:
            self.width = _LEAST

    def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or segment.text == "\n" or segment.text.isprintable():
                yield segment
            else:
                lines = (_shown(line) for line in segment.text.split("\n"))
                yield Segment("\n".join(lines), segment.style)


def _shown(line: str) -> str:
    """The line with its blanks, other control characters shown."""
    return "".join(c if c == " " or c.isprintable() else visible(c, None) or " " for c in line)


class Display:
    """`say` replaces the status line (off a terminal: prints it every 20 s), `keep` prints a line that stays."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live = Live(Text(""), console=console, auto_refresh=False, transient=True)
        self.began = self.printed = time.monotonic()

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def say(self, text: str) -> None:
        now = time.monotonic()
        if self.console.is_terminal:
            line = f"{clock(now - self.began)}  {_one_line(text[:_TERMINAL])}"
            self.live.update(Text(line, overflow="ellipsis", no_wrap=True), refresh=True)
        elif now - self.printed > _PLAIN_EVERY_S:
            self.keep(textwrap.shorten(text, _PLAIN_WIDTH))

    def keep(self, text: str) -> None:
        self.printed = time.monotonic()
        self.console.print(Text(f"{clock(self.printed - self.began)}  {_one_line(text)}"))

    def show(self, table: RenderableType) -> None:
        """Prints a table that stays."""
        self.printed = time.monotonic()
        self.console.print(table)


def _one_line(text: str) -> str:
    """Blanks stay: they separate the columns of a line."""
    return " ".join(text.splitlines())


def clock(seconds: float) -> str:
    """Minutes and seconds, `3:07`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
