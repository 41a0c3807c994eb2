"""Pages of servers that are slow, endless, packed or closed: one line each, within the deadline and the limit."""

from __future__ import annotations

import gzip
import json
import re
import ssl
import time
from dataclasses import replace

import pytest
import trustme

from harness.driver.address import Address, local
from harness.launch.pages import NoPage, Pages, success
from tests.wire import Script, wire_server

pytestmark = pytest.mark.live

OK = b"HTTP/1.1 200 OK\r\n"
ENDLESS = OK + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNK = b"10000\r\n" + b"x" * 65536 + b"\r\n"


def whole(body: bytes, *fields: str, status: str = "200 OK") -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(head).encode() + body


def dripping(data: bytes) -> Script:
    return [step for byte in data for step in (bytes([byte]), 0.05)]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (dripping(OK + b"X-Slow: " + b"y" * 200), "it was not complete within 0.3 s"),
        ([whole(b"x" * 9)[:-9], *dripping(b"x" * 200)], "it was not complete within 0.3 s"),
        ([5.0], "it was not complete within 0.3 s"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", 0.05] * 100, "it was not complete within 0.3 s"),
        ([ENDLESS, *[CHUNK] * 40], "it is larger than 1 MiB"),
        ([whole(b"x" * (3 << 20))], "it is larger than 1 MiB"),
        (
            [whole(gzip.compress(bytes(50 << 20)), "Content-Encoding: gzip")],
            r"it is packed \(gzip\), and was not asked",
        ),
        ([OK + b"X: " + b"y" * 300_000], ""),
        ([b"no HTTP at all\r\n\r\n", None], ""),
        ([whole(b"abc")[:-1], None], ""),
        ([None], ""),
    ],
    ids=["head", "body", "silent", "interim", "endless", "large", "packed", "header", "other", "cut", "closed"],
)
def test_a_page_ends_within_its_deadline_and_its_limit(script: Script, why: str) -> None:
    with wire_server(lambda n: script) as address, Pages(address, deadline_s=0.3, most_bytes=1 << 20) as pages:
        began = time.monotonic()
        with pytest.raises(NoPage) as problem:
            pages.get("/metrics")
        assert time.monotonic() - began < 2.0
    said = str(problem.value)
    assert re.match(why, said) and said and "\n" not in said and said.isprintable()


def test_one_connection_is_kept_and_the_query_of_the_url_is_part_of_each_request() -> None:
    heard: list[bytes] = []
    with wire_server(lambda n: [whole(b'{"a": NaN}')], heard=heard) as address:
        asked = replace(address, query="api-version=2024")
        with Pages(asked, "sk-1") as pages:
            assert pages.get("/version").json() != {}
            assert pages.post("/v1/completions", b"{}").status == 200
    assert [request.split(b"\r\n")[0] for request in heard if request] == [
        b"GET /version?api-version=2024 HTTP/1.1",
        b"POST /v1/completions?api-version=2024 HTTP/1.1",
    ]
    assert heard.count(b"") <= 1 and all(b"Authorization: Bearer sk-1" in request for request in heard if request)
    assert all(f"Host: {address.host_field}".encode() in request for request in heard if request)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY", "all_proxy"])
def test_proxies_of_the_environment_are_not_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "socks5h://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with wire_server(lambda n: [whole(b"{}")]) as address, Pages(address) as pages:
        assert success(pages.get("/")).body == b"{}"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"[" * 100_000, "its JSON is nested too deeply"),
        (b"1" * 5000, "it is no JSON but text/html: 1111"),
        (b"<html>", "it is no JSON but text/html: <html>"),
        (b"", "it is no JSON but text/html: empty"),
    ],
)
def test_json_that_cannot_be_read_is_one_line(body: bytes, why: str) -> None:
    with wire_server(lambda n: [whole(body, "Content-Type: text/html")]) as address, Pages(address) as pages:
        page = pages.get("/version")
    with pytest.raises(NoPage, match=f"^{why}"):
        page.json()


def test_a_failure_says_what_to_do() -> None:
    body = json.dumps({"detail": "no \x1b[2J key"}).encode()
    with wire_server(lambda n: [whole(body, status="401 No")]) as address, Pages(address) as pages:
        page = pages.get("/version")
    with pytest.raises(NoPage, match=re.escape("HTTP 401: no \\x1b[2J key; check the API key")):
        success(page)


def test_what_does_not_listen_or_resolve_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    nameless = Address("x.invalid", 80, problem="x.invalid does not resolve")
    for address, why in ((local(9), "connection refused"), (nameless, "x.invalid does not resolve")):
        with Pages(address) as pages, pytest.raises(NoPage) as problem:
            pages.get("/")
        assert str(problem.value) == why


def test_a_certificate_that_is_not_trusted_is_one_line() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with wire_server(lambda n: [whole(b"{}")], tls=context) as plain:
        address = replace(plain, tls=True)
        with Pages(address) as pages, pytest.raises(NoPage, match=r"^TLS: certificate: "):
            pages.get("/")
