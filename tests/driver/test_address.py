"""URLs as people write them, and what goes into a request of them."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from harness.driver.address import Address, not_through_proxy, resolve_url, without_values
from harness.driver.http import encode


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name resolves, without a network."""

    def none(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr("harness.driver.address.socket.getaddrinfo", none)


@pytest.mark.parametrize(
    ("url", "host", "target", "shown"),
    [
        ("http://h/v1", "h", "/v1/x", "http://h/v1/x"),
        ("http://h:80/v1/", "h", "/v1/x", "http://h/v1/x"),
        ("https://h:443", "h", "/x", "https://h/x"),
        ("https://h:80", "h:80", "/x", "https://h:80/x"),
        ("http://h:443", "h:443", "/x", "http://h:443/x"),
        ("HTTP://LLM.Example:8000/V1#top", "llm.example:8000", "/V1/x", "http://llm.example:8000/V1/x"),
        ("localhost:8000", "localhost:8000", "/x", "http://localhost:8000/x"),
        ("http://[2001:DB8::1]", "[2001:db8::1]", "/x", "http://[2001:db8::1]/x"),
        ("http://[fe80::1%25eth0]:81", "[fe80::1]:81", "/x", "http://[fe80::1]:81/x"),
        ("http://bücher.example/ä b", "xn--bcher-kva.example", "/%C3%A4%20b/x", None),
        ("http://h/%2Fa?x=%41&y= z\x1b", "h", "/%2Fa/x?x=%41&y=%20z%1B", "http://h/%2Fa/x?x=***&y=***"),
        (
            "https://h/openai/deployments/m?api-version=2024-10-21&sig=s3cret",
            "h",
            "/openai/deployments/m/x?api-version=2024-10-21&sig=s3cret",
            "https://h/openai/deployments/m/x?api-version=2024-10-21&sig=***",
        ),
    ],
)
def test_what_a_request_has_of_its_url(url: str, host: str, target: str, shown: str | None) -> None:
    found = resolve_url(url)
    assert (found.host_field, found.target(found.path + "/x")) == (host, target)
    assert shown is None or found.shown(found.path + "/x") == shown
    head = encode(found, found.path + "/x", b"{}").decode("ascii").split("\r\n")
    assert head[:2] == [f"POST {target} HTTP/1.1", f"Host: {host}"]
    assert "does not resolve" in (found.problem or "")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:pw@llm.example/v1?code=1&v#x", "https://llm.example/v1?code=***&v"),
        ("//me:pw@llm.example/@a", "//llm.example/@a"),
        ("/v1/models?key=1", "/v1/models?key=***"),
        ("https://login.example/?mail=a@b", "https://login.example/?mail=***"),
    ],
)
def test_what_may_be_secret_of_a_url_is_not_shown(url: str, shown: str) -> None:
    assert without_values(url) == shown


@pytest.mark.parametrize(
    ("there", "here"),
    [("127.0.0.9", True), ("::1", True), ("::ffff:127.0.0.1", True), ("0.0.0.0", True), ("10.0.0.1", False)],
)
def test_what_is_this_machine(there: str, here: bool) -> None:
    assert Address("x", 1, sockaddr=(there, 1)).loopback is here
    assert bool(not_through_proxy(Address("x", 1, sockaddr=(there, 1)), {"https_proxy": "http://p"})) is not here


def test_an_address_family_that_the_machine_lacks_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET6, 1, 6, "", ("::1", 1, 0, 0)), (socket.AF_INET, 1, 6, "", ("127.0.0.1", 1))]
    monkeypatch.setattr("harness.driver.address.socket.getaddrinfo", lambda *_, **__: found)

    class NoSixth:
        def __init__(self, family: int, kind: int) -> None:
            if family == socket.AF_INET6:
                raise OSError(97, "Address family not supported by protocol")

        def __enter__(self) -> NoSixth:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def settimeout(self, seconds: float) -> None:
            pass

        def connect_ex(self, there: object) -> int:
            return 0

    monkeypatch.setattr("harness.driver.address.socket.socket", NoSixth)
    assert resolve_url("http://localhost:1").sockaddr == ("127.0.0.1", 1)


def test_an_unreachable_server_and_a_proxy_are_named_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:pw@proxy:3128")
    problem = resolve_url("https://llm.example").problem or ""
    assert problem.endswith("; HTTPS_PROXY is set, but requests go to the server directly and never through a proxy")
    assert "pw" not in problem
