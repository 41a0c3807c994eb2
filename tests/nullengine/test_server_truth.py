"""The null server over real sockets: it does what it logs, whatever its clients do."""

from __future__ import annotations

import hashlib
import http.client
import json
import math
import os
import signal
import socket
import statistics
import struct
import time
from pathlib import Path

import pytest

from tests.bench.floor import run_floor
from tests.nullengine.server_parts import (
    LATE_NS,
    PLAN,
    Address,
    asking,
    encoded,
    events,
    lateness,
    null_process,
    null_server,
    post,
    received_stream,
    request,
    truth,
    within,
)

pytestmark = pytest.mark.live


def test_truth_holds_every_tokens_time_and_the_plan_is_kept(server: Address) -> None:
    body = encoded(asking(max_tokens=40))
    before = time.monotonic_ns()
    assert post(server, body)[0] == 200
    after = time.monotonic_ns()
    (entry,) = truth(server)
    assert entry["key"] == hashlib.blake2b(body, digest_size=8).hexdigest()
    assert "cut" not in entry
    assert before < entry["arrived_ns"] < after
    late = lateness(entry)
    assert len(late) == 40 and min(late) >= 0
    assert truth(server) == []


def test_tokens_leave_at_their_times(server: Address) -> None:
    def late() -> float:
        post(server, asking(max_tokens=40))
        (entry,) = truth(server)
        ordered = lateness(entry)
        return max(sorted(ordered)[20], min(ordered[-5:]))  # nor does it fall back over the stream

    assert within(2_000_000, late)


def test_what_a_client_sees_is_what_the_truth_says(server: Address) -> None:
    def between_write_and_read() -> float:
        seen = []
        with socket.create_connection(server) as sock:
            sock.sendall(request(encoded(asking())))
            data = b""
            while not data.endswith(b"0\r\n\r\n"):
                data = sock.recv(1 << 16)
                seen.append(time.monotonic_ns())
        (entry,) = truth(server)
        # One send per token: the head comes with the first, the end with the last.
        if len(seen) != 3:
            return math.inf
        gaps: list[int] = [at - written for at, written in zip(seen, entry["write_ns"], strict=True)]
        assert min(gaps) > 0
        return max(gaps)

    assert within(LATE_NS, between_write_and_read)


def test_a_held_up_token_does_not_delay_the_next() -> None:
    """Due times follow the plan: after a pause the missing tokens come at once and the rest on time."""
    with null_process(*PLAN) as (pid, address):
        with socket.create_connection(address) as sock:
            sock.sendall(request(encoded(asking(max_tokens=300))))
            sock.recv(1 << 16)
            os.kill(pid, signal.SIGSTOP)
            time.sleep(0.08)
            os.kill(pid, signal.SIGCONT)
            received_stream(sock)
        (entry,) = truth(address)
    late = lateness(entry)
    assert max(late) > 50_000_000
    assert min(late[-200:]) < LATE_NS / 2


def test_a_client_that_leaves_is_a_cut_stream(server: Address) -> None:
    with socket.create_connection(server) as sock:
        sock.sendall(request(encoded(asking(max_tokens=1000))))
        sock.recv(1 << 16)
        sock.recv(1 << 16)
        # A reset, the rudest way to leave.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    while not (entries := truth(server)):
        time.sleep(0.01)
    (entry,) = entries
    assert entry["cut"] is True and 2 <= len(entry["write_ns"]) < 900
    with socket.create_connection(server) as sock:
        sock.sendall(request(encoded(asking()))[:-5])  # and one that leaves in mid-request
    assert post(server, asking())[0] == 200
    assert len(truth(server)) == 1


def test_clients_that_leave_in_mid_write_end_nothing() -> None:
    with null_server("--ttft", "0", "--interval", "0", "--context", "1000000") as flood:
        for _ in range(10):
            with socket.create_connection(flood) as sock:
                sock.sendall(request(encoded(asking(max_tokens=900_000))))
                sock.recv(1 << 16)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert post(flood, asking())[0] == 200
        entries = truth(flood)
    assert [entry.get("cut", False) for entry in entries] == [True] * 10 + [False]


def test_a_client_that_does_not_read_delays_no_one_and_gets_everything(server: Address) -> None:
    body = encoded(asking(prompt="a b", max_tokens=40_000, return_token_ids=True))
    with null_server("--ttft", "0", "--interval", "0", "--context", "100000") as flood, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)  # 8 MB fit into no socket's buffers
        sock.connect(flood)
        sock.sendall(request(body))
        time.sleep(0.3)

        def answer_ns() -> int:
            start = time.monotonic_ns()
            assert post(flood, asking())[0] == 200
            return time.monotonic_ns() - start

        assert within(500_000_000, answer_ns)
        assert {len(entry["write_ns"]) for entry in truth(flood)} == {3}
        sock.settimeout(30)
        response = http.client.HTTPResponse(sock)
        response.begin()
        got = events(response.read())
        (entry,) = truth(flood)
    assert [event["usage"]["completion_tokens"] for event in got] == list(range(1, 40_001))
    assert len(entry["write_ns"]) == 40_000 and "cut" not in entry
    assert entry["write_ns"] == sorted(entry["write_ns"])


def test_what_nobody_asks_for_is_forgotten_oldest_first_and_counted() -> None:
    with null_server(*PLAN, before="import harness.nullengine.truth as t; t.TRUTH_TOKENS = 150") as address:
        for n in (1, 2, 3):
            post(address, asking(max_tokens=n))
        connection = http.client.HTTPConnection(*address, timeout=30)
        connection.request("GET", "/truth")
        response = connection.getresponse()
        assert response.getheader("X-Dropped") == "1"
        assert [len(json.loads(line)["write_ns"]) for line in response.read().splitlines()] == [2, 3]
        connection.close()
        assert truth(address) == []


def test_256_streams_keep_the_plan(tmp_path: Path) -> None:
    body = encoded(asking(max_tokens=16, return_token_ids=True))
    with null_server("--ttft", "0.05", "--interval", "0.020", "--context", "1000") as address:

        def middle_lateness() -> float:
            floor = run_floor(address[1], 256, 512, request(body), tmp_path)
            entries = truth(address)
            assert len(entries) == floor["requests"] == 512
            assert floor["stamped"] == floor["reads"] <= 512 * 16
            late = [ns for entry in entries for ns in lateness(entry, 50_000_000, 20_000_000)]
            assert len(late) == 512 * 16 and min(late) >= 0
            return statistics.median(late)

        assert within(LATE_NS / 2, middle_lateness)
