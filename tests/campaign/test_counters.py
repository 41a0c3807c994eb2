"""An engine's own counters, read before and after a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

import engines
from harness.campaign.counters import increase, read_counters, read_fact, why_unknown
from harness.driver.address import Address
from harness.errors import CannotStart
from harness.launch.endpoint import Endpoint
from tests.wire import wire_server

VLLM = engines.load()["vllm"]
pytestmark = pytest.mark.live


def page(text: str, status: str = "200 OK", kind: str = "text/plain; version=0.0.4") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


def endpoint(address: Address, key: str | None = None) -> Endpoint:
    return Endpoint(requests=address, pages=address, launch="attach", stopped=lambda: None, key=key)


def counter(name: str, *values: tuple[str, float]) -> str:
    rows = "".join(f"{name}{{{labels}}} {value}\n" for labels, value in values)
    return f"# TYPE {name} counter\n{rows}"


@pytest.fixture
def pages() -> Iterator[list[bytes]]:
    """What the server answers, one page after the other."""
    yield []


def test_a_series_that_appears_with_its_first_increase_counts_and_labels_are_summed(pages: list[bytes]) -> None:
    tokens, preempted = "vllm:generation_tokens_total", "vllm:num_preemptions_total"
    before = counter(tokens, ('engine="0"', 5), ('engine="1"', 7))
    pages += [page(before), page(counter(tokens, ('engine="0"', 9), ('engine="1"', 8)) + counter(preempted, ("", 3)))]
    with wire_server(lambda n: [pages[n]]) as address:
        first, second = (read_counters(endpoint(address), VLLM) for _ in range(2))
    assert first["output_tokens"] == 12 and first["preemptions"] == 0
    grown = increase(first, second)
    assert (grown["output_tokens"], grown["preemptions"]) == (5, 3)
    assert set(grown) == set(VLLM.series)


def test_counters_that_all_appear_late_count_from_0_where_the_page_was_readable(pages: list[bytes]) -> None:
    process = counter("process_cpu_seconds_total", ("", 5))
    late = process + counter("vllm:generation_tokens_total", ("", 9))
    pages += [page(process), page(late), page(""), page(late), page(process)]
    with wire_server(lambda n: [pages[n]]) as address:
        other, late_one, empty, again, gone = (read_counters(endpoint(address), VLLM) for _ in range(5))
    for before in (other, empty):
        assert increase(before, late_one)["output_tokens"] == 9 and why_unknown(before, late_one, VLLM) == ""
        assert increase(before, late_one)["preemptions"] == 0
    assert again == late_one
    assert increase(other, gone) == {} and "none of this engine's counters" in why_unknown(other, gone, VLLM)
    assert set(increase(late_one, gone).values()) == {None}


def test_a_counter_that_falls_is_not_known() -> None:
    before, after = {"output_tokens": 500.0, "requests": 4.0}, {"output_tokens": 80.0, "requests": 6.0}
    assert increase(before, after) == {"output_tokens": None, "requests": 2.0}
    assert "restarted" in why_unknown(before, after, VLLM)
    assert why_unknown({"output_tokens": None}, after, VLLM) == "its page /metrics could not be read"
    assert why_unknown({}, {}, replace(VLLM, series={})) == ""


@pytest.mark.parametrize(
    "answer",
    [
        page("no", "404 Not Found"),
        page("<!doctype html><html><body>Welcome to nginx!</body></html>", kind="text/html"),
        page('[{"iterLatencyMS": 1}]', kind="application/json"),
        b"",
    ],
    ids=["missing", "html", "json", "closed"],
)
def test_a_page_that_cannot_be_read_is_null(answer: bytes) -> None:
    good = page(counter("vllm:generation_tokens_total", ("", 5)))
    with wire_server(lambda n: [answer, None] if n == 0 else [good]) as address:
        unread, read = (read_counters(endpoint(address), VLLM) for _ in range(2))
    assert unread == dict.fromkeys(VLLM.series)
    assert increase(unread, read) == increase(read, unread) == dict.fromkeys(VLLM.series)


def test_an_engine_without_series_is_not_asked() -> None:
    heard: list[bytes] = []
    with wire_server(lambda n: [page("")], heard=heard) as address:
        assert read_counters(endpoint(address), replace(VLLM, series={})) == {}
    assert heard == []


def test_pages_lie_under_the_prefix_and_are_asked_for_with_the_key() -> None:
    heard: list[bytes] = []
    with wire_server(lambda n: [page('{"version": "1.2"}')], heard=heard) as address:
        one = endpoint(replace(address, path="/proxy"), "sk-secret")
        assert VLLM.version_reading is not None
        assert read_fact(one, VLLM.version_reading, "version") == "1.2"
        read_counters(one, VLLM)
    asked = [request for request in heard if request]
    assert [request.split(b" ")[:2] for request in asked] == [[b"GET", b"/proxy/version"], [b"GET", b"/proxy/metrics"]]
    assert all(b"authorization: bearer sk-secret" in request.lower() for request in asked)


@pytest.mark.parametrize("text", ["<html></html>", "[]", "{}", '{"other": 1}', "null"])
def test_a_fact_that_is_not_shown_is_a_reason(text: str) -> None:
    assert VLLM.version_reading is not None
    with wire_server(lambda n: [page(text)]) as address, pytest.raises(CannotStart, match="not show its version at /v"):
        read_fact(endpoint(address), VLLM.version_reading, "version")
