"""Every planted fault once. The list makes the tests and the table in docs/statistics.md (`python -m
tests.bench.faults`)."""

from tests.judge.planted import IN_RECORDS, Planted
from tests.judge.planted_answers import IN_ANSWERS
from tests.judge.planted_bounds import IN_BOUNDS

PLANTED: tuple[Planted, ...] = (*IN_RECORDS, *IN_BOUNDS, *IN_ANSWERS)
