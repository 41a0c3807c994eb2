"""Planted faults in what a machine allows, and in the calibration of the client."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.nullengine.calibrate import combined
from harness.records.calibration import Calibration, Peak
from tests.invented import calibration, floor
from tests.judge.planting import C1, C8, PREFILL, Planted, made

# 0.1 GB of weights: 20 GB/s allow 5 ms a token, and the invented engine takes 10 ms.
MODEL: dict[str, Any] = {"model__decode_bytes": 10**8, "model__flops_per_token": 2 * 10**8}
MEASURED = replace(calibration(), peaks=(Peak("cpu", 20e9, 1e12, "measured", 1.0),))
SLOW_ARITHMETIC = replace(calibration(), peaks=(Peak("cpu", 20e9, 25e9, "measured", 1.0),))
C8_TOKENS_PER_S = 750.0  # of the invented engine, about


def repeats(*tpot_errors_s: float) -> Calibration:
    """A calibration at c8 whose repeats erred by so much."""
    one = floor("c8", tokens_per_s=C8_TOKENS_PER_S)
    return calibration(combined([replace(one, tpot_error_p50_s=e, tpot_error_p99_s=e) for e in tpot_errors_s]))


def paces(*rates: float) -> Calibration:
    """A calibration at c8 that reached these rates."""
    return calibration(*(floor("c8", tokens_per_s=rate) for rate in rates))


BOUNDS: tuple[Planted, ...] = (
    Planted(
        "PLAUSIBLE",
        "an engine 1,000 times as fast, one user",
        "invalid",
        made(point=C1, served={"factor": 0.001}, **MODEL),
        "at half of what memory allows",
        made(point=C1, **MODEL),
        calibrated=MEASURED,
    ),
    Planted(
        "PLAUSIBLE",
        "an engine 1,000 times as fast, 8 users",
        "invalid",
        made(served={"factor": 0.001}, **MODEL),
        "8 times the tokens/s of one user",
        made(**MODEL),
        calibrated=MEASURED,
    ),
    Planted(
        "PLAUSIBLE",
        "a first token before the prompt could be multiplied",
        "invalid",
        made(point=C1, **MODEL),
        "a prefill of 2 s",
        made(point=C1, served=PREFILL, **MODEL),
        calibrated=SLOW_ARITHMETIC,
    ),
    Planted(
        "CLIENT_LAG",
        "a client that errs by 20 % of the TPOT in every repeat",
        "invalid",
        made(),
        "cells without a calibration at their load",
        made(point=C1),
        calibrated=repeats(0.002, 0.002, 0.002),
    ),
    Planted(
        "CLIENT_LAG",
        "calibrated at half the rate, by a client that is busy",
        "doubt",
        made(client__cpu_s=0.9),
        "by a client that is idle most of the time",
        made(client__cpu_s=0.2),
        calibrated=paces(C8_TOKENS_PER_S / 3, C8_TOKENS_PER_S / 2),
    ),
    Planted(
        "CLIENT_LAG",
        "answers read late: a tenth of each slot's time is lost",
        "invalid",
        made(fault=lambda rows: [_read_late(row) for row in rows]),
        "one repeat of the calibration was disturbed",
        made(point=C8),
        calibrated=repeats(1e-6, 0.031, 1e-6),
    ),
)


def _read_late(row: Any) -> Any:
    """Its last chunk lay unread for 60 ms; the next request waits for that."""
    *first, last = row.chunks
    return replace(row, chunks=(*first, last._replace(read_ns=last.arrival_ns + 60_000_000)))
