"""How many more rounds would tell, and how long they would take."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from harness.judge.moderated import ALPHA, Moderated, p_different, p_equal
from harness.records.run import RunResult

MOST_ROUNDS = 200  # more than anyone would wait for


def more_rounds(mean: float, margin: float, spread: Moderated, rounds: int, lift: float) -> int | None:
    """Rounds to add until the difference seen would be called one, or, if it is within the margin, equal; None if it
    would take more than MOST_ROUNDS in all.

    `mean` and `margin` are logs; `spread`: of one cell after `rounds`, shapes (); `lift`: what the adjustment for many
    questions multiplies p by. Mean and spread are taken to stay as they are."""
    totals = np.arange(rounds + 1, MOST_ROUNDS + 1)
    then = Moderated(np.broadcast_to(spread.variance, totals.shape), spread.df + totals - rounds)
    beyond = abs(mean) > margin
    p = p_different(mean, then, totals) if beyond else p_equal(mean, margin, then, totals)
    enough = np.flatnonzero(p * lift < ALPHA)
    return int(enough[0]) + 1 if enough.size else None


def seconds_of_round(runs: Sequence[RunResult]) -> float | None:
    """The median time of a round: from the first start of an engine to the end of the last run. None if the times
    cannot be read."""
    spans = []
    for number in {run.manifest.round for run in runs}:
        mine = [run.manifest for run in runs if run.manifest.round == number]
        try:
            began = {m.started_at: datetime.fromisoformat(m.started_at).timestamp() for m in mine}
        except ValueError:
            return None
        first = min(mine, key=lambda m: began[m.started_at])
        # started_at is after the start of the engine, and a round is mostly starts where engines are fast. An image is
        # pulled once, not in every round.
        start = began[first.started_at] - sum(s for phase, s in first.endpoint.cold_start_s.items() if phase != "pull")
        spans.append(max(began[m.started_at] + m.duration_s for m in mine) - start)
    return float(np.median(spans)) if spans else None
