"""The engine's own gauges, read during a run."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

import engines
from harness.campaign.gauges import read_gauges, values_of, watching
from harness.driver.address import Address
from harness.launch.endpoint import Endpoint
from tests.wire import wire_server

VLLM = engines.load()["vllm"]
PAGE = """# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0"} 3.0
vllm:num_requests_running{engine="1"} 4.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 2.0
vllm:kv_cache_usage_perc{engine="0"} 0.5
vllm:kv_cache_usage_perc{engine="1"} 0.25
vllm:generation_tokens_total 1e9
"""
SEEN = {"running": 7.0, "waiting": 2.0, "kv_used": 0.375}


def answer(text: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


def endpoint(address: Address, key: str | None = None) -> Endpoint:
    return Endpoint(requests=address, pages=address, launch="attach", stopped=lambda: None, key=key)


def test_requests_are_summed_over_labels_and_shares_averaged() -> None:
    assert values_of(PAGE, VLLM.gauges) == SEEN
    assert values_of("# nothing\n", VLLM.gauges) == {}


def test_only_readings_within_the_run_count(tmp_path: Path) -> None:
    file = tmp_path / "gauges.jsonl"
    lines = [json.dumps({"at_ns": at * 10**9, "running": at}) for at in (1, 2, 3, 4)]
    file.write_text("\n".join(lines) + '\n{"at_ns": 25')  # the last line is still being written
    rows = read_gauges(file, 2 * 10**9, 3 * 10**9 + 5)
    assert rows == [(0.0, "engine_running", 2.0), (1.0, "engine_running", 3.0)]
    assert read_gauges(None, 0, 10**18) == []


@pytest.mark.live
def test_a_process_reads_them_until_the_block_is_left() -> None:
    heard: list[bytes] = []
    start_ns = time.monotonic_ns()
    with wire_server(lambda n: [answer(PAGE)], heard=heard) as address:
        with watching(endpoint(address, "s3cret"), VLLM) as readings:
            assert readings is not None
            rows = read_gauges(readings, start_ns, time.monotonic_ns())  # the first reading is there already
            command = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
            lines = [Path(f"/proc/{one}/cmdline").read_bytes() for one in command]
        assert not readings.exists()
    assert {(name, value) for _, name, value in rows} == {(f"engine_{name}", value) for name, value in SEEN.items()}
    assert b"GET /metrics" in heard[0] and b"authorization: bearer s3cret" in heard[0].lower()
    assert any(b"harness.campaign.gauges" in line for line in lines)
    assert not any(b"s3cret" in line for line in lines)


@pytest.mark.live
def test_a_server_without_that_page_has_no_gauges() -> None:
    with wire_server(lambda n: [answer("no", "404 Not Found")]) as address, watching(endpoint(address), VLLM) as file:
        assert read_gauges(file, 0, 1 << 62) == []


def test_an_engine_without_gauges_is_not_read() -> None:
    with watching(endpoint(Address("127.0.0.1", 1)), engines.load()["openai"]) as readings:
        assert readings is None
