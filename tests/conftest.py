"""What tests in several folders need."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Generator
from typing import Any

import pytest

from tests.parts import missing

STARTS = ((subprocess.Popen, "__init__"), (os, "fork"), (socket.socket, "bind"), (socket.socket, "connect"))


@pytest.fixture(scope="session")
def tritonclient_grpc() -> Any:
    """tritonclient.grpc; without it a skip, and in CI a failure."""
    try:
        import tritonclient.grpc
    except ImportError:
        missing("tritonclient is not installed")
    return tritonclient.grpc


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test that is marked neither live nor slow fails when it starts a process or opens a socket: `make check` stays
    quick, and needs nothing but Python."""
    if item.get_closest_marker("live") or item.get_closest_marker("slow"):
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in STARTS:
            patch.setattr(owner, name, refused(getattr(owner, name), name))
        return (yield)


def refused(original: Callable[..., Any], name: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        # A thread of an earlier test may still be closing its connections.
        if threading.current_thread() is not threading.main_thread():
            return original(*args, **kwargs)
        what = "starts a process" if name in ("__init__", "fork") else "opens a socket"
        pytest.fail(f"this test {what}: mark it with @pytest.mark.live")

    return call
