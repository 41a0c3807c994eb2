"""Which requests wait for each other: the turns of one chat, the batches of one load."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol, TypeVar


class Waits(Protocol):
    """The fields of a request that are used here (see schedule.Request)."""

    @property
    def index(self) -> int: ...
    @property
    def after(self) -> tuple[int, ...]: ...


W = TypeVar("W", bound=Waits)


def chains_of(requests: Sequence[W]) -> list[list[W]]:
    """Groups requests that wait for each other, directly or not; ordered by the first request of each group.

    In a group each request comes after those that it waits for, as in a schedule."""
    chain_of: dict[int, list[W]] = {}
    for request in requests:
        found = {id(chain): chain for index in request.after if (chain := chain_of.get(index)) is not None}
        if len(found) == 1:
            (whole,) = found.values()
        else:
            whole = [one for chain in found.values() for one in chain]
            for one in whole:
                chain_of[one.index] = whole
        whole.append(request)
        chain_of[request.index] = whole
    return list({id(chain): chain for chain in chain_of.values()}.values())


def most_together(chain: Sequence[Waits]) -> int:
    """The most requests of a chain that can be in flight together: the larger of those that wait for the same
    requests, and those that no request waits for."""
    waiting = Counter(request.after for request in chain)
    waited_for = {index for after in waiting for index in after}
    return max(max(waiting.values(), default=0), len(chain) - len(waited_for))
