"""What the terminal shows while a comparison runs: one status line, and a log above it.

No refresh thread: it would take the interpreter from the driver during a run, and inflate the client's lag."""

from __future__ import annotations

import textwrap
import time

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

_PLAIN_EVERY_S = 20.0
_PLAIN_WIDTH = 200  # characters of a status line off a terminal; pip lists a hundred packages in one line


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
            line = f"{clock(now - self.began)}  {text}"
            self.live.update(Text(line, overflow="ellipsis", no_wrap=True), refresh=True)
        elif now - self.printed > _PLAIN_EVERY_S:
            self.keep(textwrap.shorten(text, _PLAIN_WIDTH))

    def keep(self, text: str) -> None:
        self.printed = time.monotonic()
        self.console.print(Text(f"{clock(self.printed - self.began)}  {text}"))

    def show(self, table: RenderableType) -> None:
        """Prints a table that stays."""
        self.printed = time.monotonic()
        self.console.print(table)


def clock(seconds: float) -> str:
    """Minutes and seconds, `3:07`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
