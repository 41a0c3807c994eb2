"""How far the slots of a closed loop send together."""

from __future__ import annotations

import numpy as np

from harness.records.latencies import Floats, known

WINDOW = 0.25  # of a cycle: the time in which a slot sends once, on average
POSITIONS = 16  # in a cycle, at which sends are counted
LEAST_WAVES, LEAST_SENDS = 2, 16  # fewer are too often together by chance


def synchrony(sent_s: Floats, slots: int) -> float | None:
    """The variance of the number of sends within a quarter of a cycle, as a share of the largest possible one.

    A slot sends in such a window with probability p = 1/4. If all `slots` send together, the number is `slots` with
    probability p, else 0: its variance is slots² p (1 - p), a share of 1. If they are independent, the variance is
    slots p (1 - p), a share of 1/slots; k equal cohorts give 1/k. None for fewer than two waves or 16 sends. The first
    wave, which a load may send at once, counts only where little else was sent."""
    sends = np.sort(known(sent_s))
    if sends.size < max(LEAST_WAVES * slots, LEAST_SENDS):
        return None
    if sends.size >= 2 * LEAST_WAVES * slots:
        sends = sends[slots:]
    # The last cohort would send again after one cycle: without that time, empty windows at the end would be missing.
    cycle = float(sends[-1] - sends[0]) / max(sends.size / slots - 1, 1)
    if cycle <= 0:
        return None
    width = WINDOW * cycle
    positions = int(POSITIONS * (sends.size / slots + 1))
    starts = np.linspace(sends[0] - width / 2, sends[-1] + cycle - width, positions)
    counts = np.searchsorted(sends, starts + width, side="right") - np.searchsorted(sends, starts, side="right")
    return float(np.var(counts) / (slots**2 * WINDOW * (1 - WINDOW)))
