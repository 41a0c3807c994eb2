"""Planted faults: what is wrong with the runs, the check that has to say so, and a clean twin on which it is silent.

The same list makes the tests and the table in docs/statistics.md (`python -m tests.bench.faults`)."""

from __future__ import annotations

from tests.judge.planted_answers import ANSWERS
from tests.judge.planted_bounds import BOUNDS
from tests.judge.planted_requests import REQUESTS
from tests.judge.planted_runs import RUNS
from tests.judge.planting import Planted

PLANTED: tuple[Planted, ...] = (*REQUESTS, *RUNS, *BOUNDS, *ANSWERS)
