"""The wire server of TGI against the bytes that the real one sent (tests/streams/tgi-*.http: its router, launcher and
Python server with the model `tiny` on a CPU, 2026-11-26, each request with `connection: close`)."""

from __future__ import annotations

import http.client
import json
import re
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import engines
from harness.adapter import Dialect, Workload
from harness.campaign.facts import Known, endpoint_facts
from harness.campaign.probe import declared, read_version, verify
from harness.errors import CannotStart
from harness.records.manifest import ProbeFacts
from harness.records.request import RequestRecord
from harness.workload.schedule import Request
from tests.conformance_parts import probe_of
from tests.loads import load
from tests.record_streams import STREAMS
from tests.wire import wire_server
from tests.wire_engines.dialect import Plan
from tests.wire_engines.onwire import MS, read_back, tiny_texts
from tests.wire_engines.server import wire_engine
from tests.wire_engines.tgi import DIALECT

ENGINE = engines.load()["tgi"]
PLAN = Plan(version="3.3.6-dev0")
STREAM = {"inputs": " pihu fupe", "parameters": {"max_new_tokens": 8, "details": True, "do_sample": False}}
OF_ONE_REQUEST = ("date", "connection", "x-compute-characters", "content-length")


def real(name: str) -> bytes:
    return (STREAMS / f"tgi-{name}.http").read_bytes()


def asked(path: str, body: bytes, **changes: Any) -> bytes:
    """What the wire server sends."""
    with wire_engine(DIALECT, PLAN, tiny_texts(), **changes) as server:
        sock = socket.create_connection(("127.0.0.1", server.endpoint.port), timeout=10)
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        sock.sendall(head.encode() + body)
        sock.shutdown(socket.SHUT_WR)
        data = b""
        while more := sock.recv(65536):
            data += more
        sock.close()
        return data


def shape(response: bytes) -> tuple[list[str], list[Any]]:
    """The lines of the head but those that differ from request to request; and for each line of the body its kind:
    a chunk's size with its spelling, an event's keys and types."""
    head, _, body = response.partition(b"\r\n\r\n")
    lines = [line for line in head.decode().split("\r\n") if line.partition(":")[0] not in OF_ONE_REQUEST]
    return lines, [_kind(line) for line in body.split(b"\r\n")]


def _kind(line: bytes) -> Any:
    if line.startswith(b"data: "):
        return ("event", line[-2:], kinds(json.loads(line[6:])))
    return "size" if line.isalnum() and line == line.upper() else line


def kinds(value: Any) -> Any:
    if isinstance(value, dict):
        return [(key, kinds(inner)) for key, inner in value.items()]
    return type(value).__name__


@pytest.mark.live
def test_a_stream_has_the_bytes_of_the_real_one() -> None:
    assert shape(asked("/generate_stream", json.dumps(STREAM).encode())) == shape(real("stream"))


@pytest.mark.live
@pytest.mark.parametrize(
    ("name", "body", "changes"),
    [
        ("overloaded", STREAM, {"fault": "overloaded"}),
        ("too-long", {"inputs": " pihu" * 1020, "parameters": {"max_new_tokens": 16}}, {}),
        ("token-ids-refused", {"inputs": [1, 2]}, {}),
        ("not-json", None, {}),
    ],
)
def test_a_refusal_has_the_bytes_of_the_real_one(name: str, body: Any, changes: dict[str, Any]) -> None:
    sent = asked("/generate_stream", b"{x}" if body is None else json.dumps(body).encode(), **changes)
    (_, theirs), (_, ours) = shape(real(name)), shape(sent)
    assert ours == theirs
    assert sent.split(b"\r\n")[0] == real(name).split(b"\r\n")[0]
    kind = [line for line in sent.split(b"\r\n") if line.startswith(b"content-type")]
    assert kind == [line for line in real(name).split(b"\r\n") if line.startswith(b"content-type")]


@pytest.mark.live
def test_its_info_page_has_the_same_keys_and_its_counters_come_with_the_first_request() -> None:
    with wire_engine(DIALECT, PLAN, tiny_texts()) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.endpoint.port, timeout=10)
        pages = {}
        for path in ("/info", "/metrics"):
            connection.request("GET", path)
            pages[path] = connection.getresponse().read()
        connection.close()
    assert pages["/metrics"] == b""
    assert kinds(json.loads(pages["/info"])) == kinds(json.loads(real("info").partition(b"\r\n\r\n")[2]))


@pytest.mark.live
@pytest.mark.parametrize(
    ("sha", "version"),
    [
        (None, "3.3.7"),
        ("dfb3fbe9f2c6ab7e8b1a40d0ad2b5b6a3d8e4f11", "3.3.7"),
        ("24c2bff65924801ddf90fa24fcc72752d4f45538", "3.3.6-dev0 of 24c2bff"),
    ],
)
def test_its_commit_tells_apart_versions_that_show_the_same_number(sha: str | None, version: str) -> None:
    head, _, body = real("info").partition(b"\r\n\r\n")
    page = json.dumps(json.loads(body) | {"sha": sha}).encode()
    sent = re.sub(rb"content-length: \d+", b"content-length: %d" % len(page), head) + b"\r\n\r\n" + page
    with wire_server(lambda index: [sent, None]) as address, wire_engine(DIALECT, PLAN, tiny_texts()) as server:
        probe = probe_of(ENGINE, server)
        probe = replace(probe, endpoint=replace(probe.endpoint, pages=address))
        facts = endpoint_facts(Known(probe.contender, probe.endpoint, ProbeFacts(version=read_version(probe))))
    assert (facts.version, facts.tested_version) == (version, "3.3.7")


@pytest.mark.live
def test_what_its_log_says_that_it_is_running_is_declared(tmp_path: Path) -> None:
    """Without flash attention nothing holds off the end of sequence: said before a run, and where answers are short."""
    log = tmp_path / "engine.log"
    flash = "\n".join(DIALECT.log(PLAN))
    with wire_engine(DIALECT, PLAN, tiny_texts(), stops_early=True) as server:
        log.write_text(f"WARN Model does not support automatic max batch total tokens\n{flash}\n")
        probe = probe_of(ENGINE, server, log)
        with pytest.raises(CannotStart, match=r"returned 3 tokens to a request for 16 \(end of sequence: not held off"):
            verify(probe)
        assert declared(ENGINE, probe.endpoint)["end of sequence"].startswith("not held off")
        log.write_text(flash)
        assert declared(ENGINE, probe.endpoint)["end of sequence"] == ENGINE.declared["end of sequence"]


def test_outputs_that_its_router_splits_are_refused() -> None:
    most, more = (Workload(input_tokens=8, output_tokens=n, load=(load(1),)) for n in (1024, 1500))
    assert ENGINE.cannot(most) is None
    assert ENGINE.cannot(more) == "its router splits outputs of more than 1024 tokens; this workload asks for 1500"


def record(name: str) -> RequestRecord:
    """What the decoder makes of it, when it arrives at once."""
    assert isinstance(ENGINE.dialect, Dialect)
    return read_back(ENGINE, Request(0, (2775, 5646), 8), [(real(name), MS)])


def test_the_real_stream_is_read() -> None:
    got = record("stream")
    assert (got.status, got.output_tokens, got.reported_tokens, got.prompt_tokens) == ("ok", 8, 8, 2)
    assert (got.finish_reason, got.count_source) == ("length", "ids")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("overloaded", "Model is overloaded"),
        ("too-long", "`inputs` tokens + `max_new_tokens` must be <= 1024. Given: 1020 `inputs` tokens and 16"),
        ("token-ids-refused", "invalid type: sequence, expected a string"),
        ("not-json", "key must be a string"),
    ],
)
def test_the_real_refusals_are_read(name: str, why: str) -> None:
    got = record(name)
    assert got.status == "failed"
    assert why in (got.error or "")
