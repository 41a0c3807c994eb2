"""A null server for the tests of one file, its log empty before each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.nullengine.server_parts import PLAN, Address, null_server, truth


@pytest.fixture(scope="module")
def server() -> Iterator[Address]:
    with null_server(*PLAN) as address:
        yield address


@pytest.fixture(autouse=True)
def _forget(request: pytest.FixtureRequest) -> None:
    if "server" in request.fixturenames:
        truth(request.getfixturevalue("server"))
