"""The invented runs of tests/invented.py as fixtures."""

from tests.invented_runs import folder, invented_runs, run

__all__ = ["folder", "invented_runs", "run"]
