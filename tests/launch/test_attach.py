"""A server that already runs: where its pages are, and why nothing can be sent there."""

from __future__ import annotations

import json
import re
import socket

import pytest

from harness.driver.address import Address, resolve_url
from harness.driver.http import encode
from harness.errors import CannotStart, HarnessError
from harness.launch.attach import attach, page_address, read_key, refusal, require_answer


@pytest.mark.parametrize(
    ("path", "pages"),
    [
        ("", ""),
        ("/v1", ""),
        ("/v1/completions", ""),
        ("/v1/chat/completions", ""),
        ("/generate", ""),
        ("/generate_stream", ""),
        ("/completion", ""),
        ("/models/llama", "/models/llama"),
        ("/openai/v1", "/openai"),
        ("/proxy/a/v1/chat/completions", "/proxy/a"),
        ("/proxy/generate_stream", "/proxy"),
        ("/v1beta/openai", "/v1beta/openai"),
    ],
)
def test_pages_lie_beside_the_route_under_the_same_prefix(path: str, pages: str) -> None:
    address = Address("x", 443, tls=True, path=path, ca_file="ca.pem")
    found = page_address(address)
    assert (found.path, found.url, found.ca_file) == (pages, address.url, "ca.pem")


@pytest.mark.live
@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("[::1]", socket.AF_INET6)])
def test_what_listens_is_attached_to_and_what_does_not_is_refused(host: str, family: socket.AddressFamily) -> None:
    try:
        listener = socket.create_server((host.strip("[]"), 0), family=family)
    except OSError as problem:
        if family == socket.AF_INET:
            raise
        pytest.skip(f"this machine has no IPv6: {problem}")
    with listener:
        url = f"http://{host}:{listener.getsockname()[1]}/v1/"
        with attach(url, "sk-secret") as endpoint:
            require_answer(endpoint)
            assert endpoint.stopped() is None
            assert (endpoint.launch, endpoint.url, endpoint.key) == ("attach", url.rstrip("/"), "sk-secret")
            assert (endpoint.device, endpoint.gpus, endpoint.pid, endpoint.log) == (None, None, None, None)
            assert "sk-secret" not in json.dumps(dict(endpoint.files))
            assert endpoint.requests.loopback
    with pytest.raises(CannotStart, match=rf"^nothing answers at http://{re.escape(host)}:\d+: connection refused$"):
        require_answer(endpoint)


@pytest.mark.live
def test_a_name_that_does_not_resolve_is_a_reason() -> None:
    with attach("https://no-such-host.invalid/v1") as endpoint:
        assert "no-such-host.invalid does not resolve" in (endpoint.stopped() or "")
        assert "does not resolve" in (refusal(endpoint.requests) or "")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://x:1", "url ftp://x:1: give http://HOST:PORT"),
        ("http://x:99999", "url http://x:99999: the port must be a number"),
        ("http://me:sk-secret@x:1", "url: a user or password in a URL is not used; put an API key into the env"),
        ("http://:sk-secret@x:99999", "url: a user or password in a URL is not used"),
        ("http://me:sk-secret@[::1", "url http://[::1: Invalid IPv6 URL."),
        ("http://me:sk-secret/w@x", "url http://x: the port must be a number"),
        ("http://me:0?sk-secret@x", "url http://x: the port must be a number from 1"),
        ("http://x:0?key=sk-secret", "url http://x:0?key=***: the port must be a number from 1"),
        ("http://[::1:8000", "url http://[::1:8000: Invalid IPv6 URL."),
        ("http://[::1]x:8000", "url http://[::1]x:8000: ::1 is no host name."),
        ("http://a b/v1", "url http://a b/v1: a b is no host name."),
        ("http://a\x1b[2Jb", "url http://a\\x1b[2Jb: Invalid IPv6 URL."),
        ("http:/x/v1", "url http:/x/v1: give http://HOST:PORT"),
        ("unix:///run/llm.sock", "url unix:///run/llm.sock: give http://HOST:PORT"),
        ("", "url : give http://HOST:PORT"),
    ],
)
def test_what_is_no_url_is_one_line_that_shows_no_key(url: str, said: str) -> None:
    with pytest.raises(HarnessError) as refused, attach(url, named="url"):
        pass
    assert str(refused.value).startswith(said) and "sk-secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("value", "key"), [("sk-1\n", "sk-1"), (" \tsk-1\r\n", "sk-1"), ("", None), (" \n", None), ("EMPTY", "EMPTY")]
)
def test_blanks_around_a_key_are_left_out(value: str, key: str | None) -> None:
    assert read_key("PROD_KEY", {"PROD_KEY": value}) == key


@pytest.mark.parametrize(
    "value", ["sk\r\nX-Admin: 1", "sk 1", "sk\x001", "sk-é", "sk-\udcff", "sk\x1b[2J", "sk\u20281"]
)
def test_a_key_that_no_header_can_carry_is_one_line_that_does_not_show_it(value: str) -> None:
    with pytest.raises(HarnessError, match=r"^the API key in PROD_KEY has ") as refused:
        read_key("PROD_KEY", {"PROD_KEY": value})
    assert "sk" not in str(refused.value)


def test_nothing_of_a_request_can_become_a_header() -> None:
    address = resolve_url("http://127.0.0.1:1/a\r\nX-Admin: 1/v1?b=\r\nX-Admin: 2")
    body = json.dumps({"model": "m\r\nX-Admin: 3"}).encode()
    head = encode(address, address.path, body).split(b"\r\n\r\n")[0].split(b"\r\n")
    assert len(head) == 6 and not any(line.startswith(b"X-Admin") for line in head)
