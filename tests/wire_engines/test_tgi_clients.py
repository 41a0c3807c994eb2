"""TGI's two public clients read the wire server's answers as they read those of the real one (tests/streams/tgi-*)."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.adapter import Venv
from harness.errors import CannotStart
from harness.launch.install import ensure_environment
from harness.paths import cache_folder
from tests import tgi_clients
from tests.parts import missing
from tests.record_streams import STREAMS
from tests.wire import wire_server
from tests.wire_engines.dialect import Plan
from tests.wire_engines.onwire import tiny_texts
from tests.wire_engines.server import wire_engine
from tests.wire_engines.test_tgi import kinds
from tests.wire_engines.tgi import DIALECT

# It requires an older huggingface_hub than the harness.
TEXT_GENERATION = Venv(
    tuple((Path(__file__).parent / "text-generation.packages.txt").read_text(encoding="utf-8").splitlines())
)
PROMPT, LONG, TOKENS = " pihu fupe", " pihu" * 1020, 8
CASES = ("stream", "whole", "overloaded", "too-long", "too-long-whole")
URL = "http://127.0.0.1:{}"


def question(port: int, case: str) -> tgi_clients.Question:
    long = case.startswith("too-long")
    return URL.format(port), LONG if long else PROMPT, 16 if long else TOKENS, not case.endswith("whole")


@contextlib.contextmanager
def real_server(case: str) -> Iterator[int]:
    """Sends what the real server sent."""
    sent = (STREAMS / f"tgi-{case}.http").read_bytes()
    if case == "whole":  # it was asked at /generate; at /, where the clients ask, the same is in a list
        head, _, body = sent.partition(b"\r\n\r\n")
        head = head.replace(b"content-length: %d" % len(body), b"content-length: %d" % (len(body) + 2))
        sent = head + b"\r\n\r\n[" + body + b"]"
    with wire_server(lambda index: [sent, None]) as address:
        yield address.port


@contextlib.contextmanager
def our_server(case: str) -> Iterator[int]:
    changes: dict[str, Any] = {"fault": "overloaded"} if case == "overloaded" else {}
    with wire_engine(DIALECT, Plan(version="3.3.6-dev0"), tiny_texts(), **changes) as server:
        yield server.endpoint.port


def asked(client: str, questions: list[tgi_clients.Question]) -> list[Any]:
    """The client's answers; text_generation runs in an environment of its own."""
    if client == "huggingface_hub":
        return list(json.loads(json.dumps(tgi_clients.answers(client, questions), default=str)))
    try:
        folder = ensure_environment("text-generation", TEXT_GENERATION, cache_folder(), lambda line: None)
    except CannotStart as problem:
        missing(str(problem))
    command = [str(folder / "bin" / "python"), tgi_clients.__file__, client]
    env = {**os.environ, "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(command, input=json.dumps(questions), env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


@pytest.mark.slow
@pytest.mark.parametrize("client", tgi_clients.CLIENTS)
def test_a_client_reads_the_wire_server_as_the_real_one(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(open(case)) for open in (real_server, our_server) for case in CASES]
        found = asked(client, [question(port, case) for port, case in zip(servers, [*CASES, *CASES], strict=True)])
    real, ours = dict(zip(CASES, found[: len(CASES)], strict=True)), dict(zip(CASES, found[len(CASES) :], strict=True))
    for case in CASES:
        assert kinds(ours[case]) == kinds(real[case]), case
        if "raised" in real[case]:
            assert ours[case]["raised"] == real[case]["raised"], case
    assert ours["overloaded"] == real["overloaded"] and "overloaded" in real["overloaded"]["message"]
    for one in (real, ours):
        *_, last = one["stream"]
        assert len(one["stream"]) == last["details"]["generated_tokens"] == TOKENS
        assert last["details"]["finish_reason"] == one["whole"]["details"]["finish_reason"]
        assert "".join(e["token"]["text"] for e in one["stream"]) == last["generated_text"]
        assert [t["text"] for t in one["whole"]["details"]["tokens"]] == [e["token"]["text"] for e in one["stream"]]
        assert "must be <= 1024. Given: 1020 `inputs` tokens and 16 `max_new_tokens`" in one["too-long"]["message"]
