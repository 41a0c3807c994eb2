"""What tests in several folders need."""

from __future__ import annotations

from typing import Any

import pytest

from tests.parts import missing


@pytest.fixture(scope="session")
def tritonclient_grpc() -> Any:
    """tritonclient.grpc; without it a skip, and in CI a failure."""
    try:
        import tritonclient.grpc
    except ImportError:
        missing("tritonclient is not installed")
    return tritonclient.grpc
