"""The null server over real sockets: the shapes of its answers, its HTTP, and that nothing that is sent ends it."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import socket
import statistics
import subprocess
import sys
import time

import pytest

from harness.launch.running import free_port
from tests.nullengine.server_parts import (
    CHAT,
    COMPLETIONS,
    LATE_NS,
    PLAN,
    TTFT_NS,
    Address,
    asking,
    encoded,
    events,
    lateness,
    post,
    received_stream,
    request,
    truth,
    within,
)

pytestmark = pytest.mark.live


def received(sock: socket.socket) -> bytes:
    """All that comes until the server closes or is silent for a second."""
    sock.settimeout(1.0)
    data = b""
    with contextlib.suppress(TimeoutError):
        while more := sock.recv(1 << 16):
            data += more
    return data


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
    before = int(get("/metrics")[1].split(b"tokens_total ")[1].splitlines()[0])
    post(server, asking())
    assert int(get("/metrics")[1].split(b"tokens_total ")[1].splitlines()[0]) == before + 3
    assert b"null:running 0\n" in get("/metrics")[1]
    assert get("/nothing")[0] == 404


def test_it_needs_a_standard_input_that_can_end() -> None:
    command = [sys.executable, "-m", "harness.nullengine.server", "--port", str(free_port()), *PLAN, "--until-eof"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "--until-eof" in done.stderr
