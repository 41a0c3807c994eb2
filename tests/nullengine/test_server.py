"""The null server over real sockets: it does what it logs, and nothing that a client does ends it."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import math
import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.launch.running import free_port
from tests.bench.floor import run_floor

pytestmark = pytest.mark.live

TTFT_NS, INTERVAL_NS = 20_000_000, 5_000_000
PLAN = ("--ttft", "0.020", "--interval", "0.005", "--context", "100000")
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
LATE_NS = 10_000_000  # what a loaded test machine may add to a token's due time
Address = tuple[str, int]


@contextlib.contextmanager
def null_server(*flags: str, before: str = "pass") -> Iterator[Address]:
    with null_process(*flags, before=before) as (_, address):
        yield address


@contextlib.contextmanager
def null_process(*flags: str, before: str = "pass") -> Iterator[tuple[int, Address]]:
    """The server's process id and address; it must live until its standard input closes, and end then."""
    port = free_port()
    start = f"import harness.nullengine.server as n; {before}; n.main()"
    command = [sys.executable, "-c", start, "--port", str(port), *flags, "--until-eof"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stderr is not None
        until = time.monotonic() + 30
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.01)
        try:
            yield process.pid, ("127.0.0.1", port)
            assert process.poll() is None, "the server did not survive"
        finally:
            process.stdin.close()
            try:
                process.wait(30)
            finally:
                process.kill()
        assert (process.returncode, process.stderr.read()) == (0, "")


@pytest.fixture(scope="module")
def server() -> Iterator[Address]:
    with null_server(*PLAN) as address:
        yield address


@pytest.fixture(autouse=True)
def _forget(server: Address) -> None:
    truth(server)


def encoded(fields: object) -> bytes:
    return fields if isinstance(fields, bytes) else json.dumps(fields, separators=(",", ":")).encode()


def request(body: bytes, route: str = COMPLETIONS, fields: str = "") -> bytes:
    return f"POST {route} HTTP/1.1\r\nHost: null\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode() + body


def post(address: Address, fields: object, route: str = COMPLETIONS) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*address, timeout=30)
    connection.request("POST", route, encoded(fields))
    response = connection.getresponse()
    try:
        return response.status, response.read()
    finally:
        connection.close()


def truth(address: Address) -> list[dict[str, Any]]:
    connection = http.client.HTTPConnection(*address, timeout=30)
    connection.request("GET", "/truth")
    lines = connection.getresponse().read().splitlines()
    connection.close()
    return [json.loads(line) for line in lines]


def events(body: bytes) -> list[dict[str, Any]]:
    parts = body.decode().split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""]
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]


def asking(**fields: object) -> dict[str, object]:
    return {"prompt": [1, 2, 3], "max_tokens": 3, "stream": True, **fields}


def lateness(entry: dict[str, Any], ttft_ns: int = TTFT_NS, interval_ns: int = INTERVAL_NS) -> list[int]:
    """Nanoseconds by which each token of a stream left after its due time."""
    return [at - (entry["arrived_ns"] + ttft_ns + i * interval_ns) for i, at in enumerate(entry["write_ns"])]


def within(limit_ns: float, measure: Callable[[], float]) -> bool:
    """In one of five tries: other work on the machine makes a server late now and then, its own fault always."""
    return any(measure() < limit_ns for _ in range(5))


def received(sock: socket.socket) -> bytes:
    """All that comes until the server closes or is silent for a second."""
    sock.settimeout(1.0)
    data = b""
    with contextlib.suppress(TimeoutError):
        while more := sock.recv(1 << 16):
            data += more
    return data


# -- the truth -------------------------------------------------------------------------------------------


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


# -- shapes ----------------------------------------------------------------------------------------------


def test_plain_events_carry_text_alone(server: Address) -> None:
    status, body = post(server, asking())
    first, second, last = events(body)
    assert status == 200
    assert first["object"] == "text_completion" and first["id"].startswith("cmpl-")
    assert first["choices"] == [{"index": 0, "text": " x", "finish_reason": None}]
    assert last["choices"][0]["finish_reason"] == "length"
    assert not any("usage" in event for event in (first, second, last))


def test_ids_and_running_usage_where_asked(server: Address) -> None:
    got = events(post(server, asking(return_token_ids=True))[1])
    ids = [event["choices"][0]["token_ids"] for event in got]
    assert [len(i) for i in ids] == [1, 1, 1] and len({i[0] for i in ids}) == 3
    assert [event["usage"]["completion_tokens"] for event in got] == [1, 2, 3]
    assert got[-1]["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 3,
        "total_tokens": 6,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    again = events(post(server, asking(return_token_ids=True, max_tokens=1, temperature=0))[1])
    other = events(post(server, asking(return_token_ids=True, prompt=[1, 2, 4]))[1])
    assert again[0]["choices"][0]["token_ids"] == ids[0]  # the prompt alone decides
    assert other[0]["choices"][0]["token_ids"] != ids[0]
    whole = json.loads(post(server, asking(return_token_ids=True, stream=False))[1])
    assert whole["choices"][0]["token_ids"] == [i[0] for i in ids]
    assert whole["usage"]["completion_tokens"] == 3 and truth(server)[-1]["write_ns"]


def test_usage_variants(server: Address) -> None:
    *tokens, final = events(post(server, asking(stream_options={"include_usage": True}))[1])
    assert len(tokens) == 3 and not any("usage" in event for event in tokens)
    assert final["choices"] == [] and final["usage"]["total_tokens"] == 6
    options = {"include_usage": True, "continuous_usage_stats": True}
    got = events(post(server, asking(stream_options=options))[1])
    assert [event["usage"]["completion_tokens"] for event in got] == [1, 2, 3, 3]
    assert not any("token_ids" in choice for event in got for choice in event["choices"])


def test_chat_shape(server: Address) -> None:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": [{"type": "text", "text": "a"}]}]
    asked = {
        "messages": messages,
        "max_completion_tokens": 2,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    role, first, second, finish, final = events(post(server, asked, CHAT)[1])
    assert role["object"] == "chat.completion.chunk"
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert first["choices"] == [{"index": 0, "delta": {"content": " x"}, "finish_reason": None}] == second["choices"]
    assert finish["choices"] == [{"index": 0, "delta": {}, "finish_reason": "length"}]
    assert final["choices"] == [] and final["usage"]["prompt_tokens"] == 3 and final["usage"]["completion_tokens"] == 2
    assert len(truth(server)[0]["write_ns"]) == 2
    whole = json.loads(post(server, {**asked, "stream": False}, CHAT)[1])
    assert whole["choices"][0]["message"] == {"role": "assistant", "content": " x x"}


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [("one two  three", 3), ("", 1), (["one two"], 2), ([[5, 6, 7]], 3), ([5], 1), ('"prompt": [1, 2]', 3)],
)
def test_prompts_are_counted(server: Address, prompt: object, tokens: int) -> None:
    options = {"include_usage": True}
    got = events(post(server, asking(prompt=prompt, max_tokens=1, stream_options=options))[1])
    assert got[-1]["usage"]["prompt_tokens"] == tokens


def test_an_array_of_another_name_is_not_the_prompt(server: Address) -> None:
    body = b'{"extra":{"prompt":[1,2]},"prompt": [ 1, 2,\n3 ],"max_tokens":1,"stream_options":{},"stream":false}'
    assert json.loads(post(server, body)[1])["usage"]["prompt_tokens"] == 3


def test_prompts_of_50_000_ids_are_answered_and_delay_no_one(server: Address) -> None:
    ids = list(range(50_000, 100_000))
    body = encoded(asking(prompt=ids, max_tokens=2, return_token_ids=True))
    assert len(body) > 290_000
    key = hashlib.blake2b(body, digest_size=8).hexdigest()

    def lateness_beside_them() -> float:
        with contextlib.ExitStack() as stack:
            watched = stack.enter_context(socket.create_connection(server))
            watched.sendall(request(encoded(asking(max_tokens=100))))
            watched.recv(1 << 16)
            socks = [stack.enter_context(socket.create_connection(server)) for _ in range(16)]
            for sock in socks:
                sock.sendall(request(body))
            answers = [received_stream(sock) for sock in [*socks, watched]]
        assert all(a.startswith(b"HTTP/1.1 200") and b'"prompt_tokens":50000,' in a for a in answers[:-1])
        entries = truth(server)
        assert [entry["key"] for entry in entries].count(key) == 16
        (small,) = (entry for entry in entries if entry["key"] != key)
        return statistics.median(lateness(small))

    assert within(LATE_NS / 2, lateness_beside_them)


def received_stream(sock: socket.socket) -> bytes:
    sock.settimeout(30)
    data = bytearray()
    while not data.endswith(b"0\r\n\r\n"):
        more = sock.recv(1 << 16)
        assert more, data
        data += more
    return bytes(data)


# -- HTTP ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"prompt":[1,2,"max_tokens":3}',
        b'{"max_tokens":3}',
        b'{"prompt":[],"max_tokens":3}',
        b'{"prompt":[ ],"max_tokens":3}',
        b'{"prompt":[[1],[2]],"max_tokens":3}',
        b'{"prompt":["a","b"],"max_tokens":3}',
        b'{"prompt":7}',
        b'{"prompt":[1],"max_tokens":0}',
        b'{"prompt":[1],"max_tokens":"3"}',
        b'{"prompt":[1],"max_tokens":100000}',
        b'{"prompt":"\xff"}',
        b'{"prompt":' + b"[" * 100_000,
    ],
)
def test_malformed_bodies_get_400_and_the_connection_stays(server: Address, body: bytes) -> None:
    connection = http.client.HTTPConnection(*server, timeout=30)
    for _ in range(2):
        connection.request("POST", COMPLETIONS, body)
        response = connection.getresponse()
        assert response.status == 400
        assert json.loads(response.read())["error"]["message"]
    connection.close()
    assert truth(server) == []


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"POST /v1/completions HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 411),
        (b"POST /v1/completions HTTP/1.1\r\nContent-Length: 99999999999999\r\n\r\n", 413),
        (b"GET /health HTTP/1.1\r\nX: " + b"x" * 70_000, 431),
        (b"GET /health HTTP/1.0\r\n\r\n", 505),
    ],
)
def test_what_is_not_http_is_refused_and_closed(server: Address, raw: bytes, status: int) -> None:
    with socket.create_connection(server) as sock:
        sock.sendall(raw)
        sock.settimeout(10.0)
        data = b"".join(iter(lambda: sock.recv(1 << 16), b""))  # it ends when the server closes
    assert data.startswith(b"HTTP/1.1 %d " % status) and b"Connection: close" in data


def test_expect_continue_gets_it(server: Address) -> None:
    body = encoded(asking())
    whole = request(body, fields="Expect: 100-continue\r\n")
    with socket.create_connection(server, timeout=30) as sock:
        sock.sendall(whole[: -len(body)])
        assert sock.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert received_stream(sock).startswith(b"HTTP/1.1 200")


def test_connection_close_is_honoured_and_otherwise_it_is_kept(server: Address) -> None:
    with socket.create_connection(server, timeout=30) as sock:
        for _ in range(2):
            sock.sendall(request(encoded(asking())))
            received_stream(sock)
        sock.sendall(request(encoded(asking()), fields="connection: Close\r\n"))
        received_stream(sock)
        assert sock.recv(1) == b""
    assert len(truth(server)) == 3


def test_a_request_that_trickles_in_counts_from_its_last_byte(server: Address) -> None:
    whole = request(encoded(asking()))
    with socket.create_connection(server) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(whole), 10):
            last = time.monotonic_ns()
            sock.sendall(whole[at : at + 10])
            time.sleep(0.002)
        received_stream(sock)
    (entry,) = truth(server)
    assert last < entry["arrived_ns"] <= entry["write_ns"][0] - TTFT_NS


def test_requests_sent_ahead_are_answered_in_turn(server: Address) -> None:
    with socket.create_connection(server, timeout=30) as sock:
        sock.sendall(request(encoded(asking())) + b"GET /health HTTP/1.1\r\n\r\n" * 2000)
        sock.sendall(b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")
        data = received(sock)
    assert data.count(b"HTTP/1.1 200 OK") == 2002 and data.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/event")


def test_pages(server: Address) -> None:
    def get(path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(*server, timeout=30)
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()

    assert get("/health") == (200, b"")
    assert json.loads(get("/v1/models")[1])["data"][0]["max_model_len"] == 100_000
    assert json.loads(get("/version")[1])["version"]
    before = int(get("/metrics")[1].split(b"tokens_total ")[1])
    post(server, asking())
    assert int(get("/metrics")[1].split(b"tokens_total ")[1]) == before + 3
    assert get("/nothing")[0] == 404


def test_it_needs_a_standard_input_that_can_end() -> None:
    command = [sys.executable, "-m", "harness.nullengine.server", "--port", str(free_port()), *PLAN, "--until-eof"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "--until-eof" in done.stderr
