"""What a trace file is read into: a column for each fact, because a trace can have ten million requests."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.errors import HarnessError
from harness.visible import visible

MOST_TOKENS = 2**31 - 1  # schedules keep lengths in 32 bits
MOST_UNUSED = 12  # names of keys that are listed
NO_ANSWER = "no output tokens"
NO_PROMPT = "no prompt tokens"
INCOMPLETE = "without a time or a length"


@dataclass(slots=True)
class Rows:
    """The requests of a trace file in the file's order: seconds, tokens, and for some of them after how many seconds
    their user cancelled them, and the blocks that their prompt begins with, `block_tokens` each. `left_out`: rows that
    cannot be replayed, by reason; `unused`: keys or columns that are not replayed."""

    format: str = ""
    earliest: float = float("inf")  # of the requests left out
    block_tokens: int = 0
    at_s: array[float] = field(default_factory=lambda: array("d"))
    inputs: array[int] = field(default_factory=lambda: array("i"))
    outputs: array[int] = field(default_factory=lambda: array("i"))
    cancels: dict[int, float] = field(default_factory=dict)
    blocks: dict[int, tuple[int, ...]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    unused: dict[str, None] = field(default_factory=dict)

    def add(self, at_s: float, input_tokens: int, output_tokens: int) -> int:
        """Adds a request and returns its index. One that a service did not answer is left out: -1."""
        if not output_tokens or not input_tokens:
            self.earliest = min(self.earliest, at_s)  # a window counts from the first line, answered or not
            self.left_out[NO_PROMPT if output_tokens else NO_ANSWER] += 1
            return -1
        self.at_s.append(at_s)
        self.inputs.append(input_tokens)
        self.outputs.append(output_tokens)
        return len(self.at_s) - 1

    def not_used(self, names: Iterable[str]) -> None:
        """Remembers the names of keys that are not replayed."""
        for name in names:
            if len(self.unused) < MOST_UNUSED:
                self.unused[visible(name, 30)] = None

    @property
    def read(self) -> int:
        """Requests in the file, with those that are left out."""
        return len(self.at_s) + self.left_out.total()


def wrong(file: str, line: int, what: str) -> HarnessError:
    """The error for one line of a trace."""
    return HarnessError(f"{file}: line {line}: {what}")
