"""Lengths of prompts and answers: one for all requests, or drawn from a range."""

from __future__ import annotations

import random

import msgspec

from harness.errors import HarnessError
from harness.workload.load_base import check_positive
from harness.workload.numbers import whole

BLOCK, GROUP = 16, 4  # requests: each sixteenth of the range comes once in a block, each quarter once in a group


class Lengths(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"least": "from", "most": "to"}):
    """Tokens between `least` and `most`, both included, evenly spread.

    With one length for all, the slots of a closed loop end and begin together: their prompts are then processed
    together, and time to first token is that of a whole wave."""

    least: int
    most: int

    @property
    def words(self) -> str:
        """`32 to 96`."""
        return f"{self.least} to {self.most}"


Given = int | Lengths | None  # as a workload says it; None: as its trace says


def deck(lengths: Lengths) -> list[int]:
    """The lengths of one block: the midpoints of 16 equal slices of the range, ascending."""
    width = (lengths.most - lengths.least) / BLOCK
    return [round(lengths.least + width * (i + 0.5)) for i in range(BLOCK)]


def dealt(given: int | Lengths, count: int, key: str) -> list[int]:
    """The lengths of `count` requests; `key` is the seed of the shuffling.

    Each block of 16 requests has the same 16 lengths, shuffled, and each 4 requests of it have one length of each
    quarter of the range: drawn freely, the tokens of two rounds of 100 requests from 32 to 96 would differ by 4 %, and
    throughput with them."""
    if isinstance(given, int):
        return [given] * count
    cards, rng = deck(given), random.Random(key)
    found: list[int] = []
    while len(found) < count:
        quarters = [rng.sample(cards[at : at + GROUP], GROUP) for at in range(0, BLOCK, GROUP)]
        for group in zip(*quarters, strict=True):
            found += rng.sample(group, GROUP)
    return found[:count]


def longest(given: int | Lengths) -> int:
    """The most tokens that a request can have."""
    return given if isinstance(given, int) else given.most


def same(given: Given) -> int | None:
    """The tokens of every request; None if they differ."""
    return given if isinstance(given, int) else None


def spread(given: Given) -> Lengths | None:
    """The range that lengths are drawn from; None if they are not drawn."""
    return given if isinstance(given, Lengths) else None


def check_lengths(given: int | Lengths, where: str, name: str) -> None:
    """Raises HarnessError for lengths that are not above 0, and for a range that ends below its start."""
    if isinstance(given, int):
        check_positive(name, given, where)
        return
    check_positive(f"{name}.from", given.least, where)
    check_positive(f"{name}.to", given.most, where)
    if given.most < given.least:
        raise HarnessError(f"{where}: {name} is from {given.least} to {given.most}; the end is below the start.")


def parse_lengths(text: str) -> int | Lengths:
    """`64`, or `32:96` for a range. Raises ValueError for anything else."""
    least, colon, most = text.partition(":")
    return Lengths(whole(least), whole(most)) if colon else whole(least)
