"""Real parts (an engine, Docker, Triton, a compiler) that a machine may not have."""

import os
from typing import NoReturn

import pytest

IN_CI = bool(os.environ.get("CI"))


def missing(reason: str) -> NoReturn:
    """Skips the test for want of a part; in CI, where every part has to run, it fails."""
    if IN_CI:
        pytest.fail(reason)
    pytest.skip(reason)
