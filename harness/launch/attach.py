"""Attaches to a server that already runs: nothing is started, and nothing is stopped."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace

from harness.driver.address import Address, not_through_proxy, resolve_url
from harness.errors import CannotStart, HarnessError
from harness.launch.endpoint import Endpoint

_CONNECT_S = 5.0


def read_key(variable: str, environ: Mapping[str, str]) -> str | None:
    """The API key in an environment variable; None if it is not set. Raises HarnessError for one that no header can
    carry: its text would end up in error messages."""
    key = environ.get(variable, "").strip()
    if not all("!" <= character <= "~" for character in key):
        raise HarnessError(
            f"the API key in {variable} has spaces, line breaks or characters outside ASCII; set it again"
        )
    return key or None


def page_address(address: Address) -> Address:
    """The address of its pages (health, metrics): the URL without its route, under the same prefix."""
    path = address.path
    for ending in ("/chat/completions", "/completions", "/generate_stream", "/generate", "/completion"):
        path = path.removesuffix(ending)
    return replace(address, path=path.removesuffix("/v1"))


@contextlib.contextmanager
def attach(url: str, key: str | None = None, ca_file: str = "", named: str = "--url") -> Iterator[Endpoint]:
    """The server at `url`, whether or not it answers; `named`: the flag or key that has the URL. Raises HarnessError
    for a bad URL."""
    address = resolve_url(url, named, ca_file)
    yield Endpoint(
        requests=address,
        pages=page_address(address),
        launch="attach",
        stopped=lambda: refusal(address),
        url=address.shown(address.path),
        key=key,
        files={"launch.json": {"url": address.shown(address.path)}},
    )


def refusal(address: Address) -> str | None:
    """Why the server cannot be reached now; None if something listens."""
    if address.problem or address.sockaddr is None:
        return address.problem or "its name does not resolve"
    try:
        with socket.socket(address.family, socket.SOCK_STREAM) as sock:
            sock.settimeout(_CONNECT_S)
            sock.connect(address.sockaddr)
    except OSError as problem:
        why = (problem.strerror or str(problem)).lower()
        return f"nothing answers at {address.url}: {why}{not_through_proxy(address)}"
    return None


def require_answer(endpoint: Endpoint) -> None:
    """Raises CannotStart if nothing listens at an attached endpoint."""
    if problem := endpoint.stopped():
        raise CannotStart(problem)
