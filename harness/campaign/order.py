"""The order of the candidates in each round."""

from __future__ import annotations

import random
from collections.abc import Sequence


def candidate_order(names: Sequence[str], seed: int, round_index: int) -> list[str]:
    """The order of one round (they count from 1), counterbalanced over rounds: a candidate that always ran second would
    always run on a warmer machine.

    The rows of a Williams design (E. J. Williams, Experimental designs balanced for the estimation of residual effects
    of treatments, Australian Journal of Scientific Research A 2, 1949): over all of them (k rounds for an even number
    k of candidates, 2k for an odd one) each candidate is at each place equally often, and follows each other equally
    often. Every second round is the mirror image of the one before, so that a machine that gets warmer from place to
    place treats all alike after each pair of rounds. The seed decides who is who."""
    order = list(names)
    random.Random(f"{seed}/order").shuffle(order)
    rows = williams(len(order))
    return [order[i] for i in rows[(round_index - 1) % len(rows)]]


def williams(k: int) -> list[list[int]]:
    """The rows of a Williams design for `k` treatments, each followed by its mirror image."""
    # 0, k-1, 1, k-2, ...: each step has another length, so the shifted rows have each pair of neighbours once.
    zigzag = [i // 2 if i % 2 == 0 else k - 1 - i // 2 for i in range(k)]
    # For an even k the mirror image of a row is another row of the same square, for an odd one of a second square.
    shifts = range(k // 2 if k % 2 == 0 else k)
    rows = [[(place + shift) % k for place in zigzag] for shift in shifts]
    return [row for one in rows for row in (one, one[::-1])] or [[]]
