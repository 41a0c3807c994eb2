"""A real tritonserver for the tests of one file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.driver.triton_parts import real_server
from tests.triton_server import Server


@pytest.fixture(scope="module")
def server(tritonclient_grpc: Any) -> Iterator[Server]:
    with real_server() as one:
        yield one
