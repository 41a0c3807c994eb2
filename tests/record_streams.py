"""Keeps in tests/streams what each engine sends: `python -m tests.record_streams [ENGINE ...]`.

Every stream answers the same question, so that one test can demand the same counts of all of them. There are two
kinds. vllm.sse, llamacpp.sse, sglang.sse and transformers.sse were recorded from the real engines on a CPU,
lmdeploy.sse from its real server over a stand-in for its compiled engine (tests/lmdeploy_standin.py), fake.sse and
openai.sse from this project's own server. Those of the others, which need a GPU, were not: tgi.sse and tensorrtllm.sse
are written by tests/wire_engines, reconstructed from the sources of the versions named there; that of TGI also from the
real one's answers, tgi-*.http (see tests/wire_engines/test_tgi.py). An engine that is spoken to otherwise than over
HTTP has none."""

from __future__ import annotations

import http.client
import json
import os
import sys
from pathlib import Path

import engines
from harness.adapter import Dialect, Engine
from harness.nullengine.calibrate import null_server
from harness.workload.schedule import Request
from harness.workload.spec import Workload
from tests import wire_engines
from tests.lmdeploy_server import lmdeploy_here
from tests.loads import load
from tests.started import started_here
from tests.wire_engines.dialect import Plan
from tests.wire_engines.onwire import scripted, tiny_texts

STREAMS = Path(__file__).parent / "streams"
PROMPT = (300, 301, 302, 303)
OUTPUT_TOKENS = 24
QUESTION = Request(0, PROMPT, OUTPUT_TOKENS)
# Of a reconstruction: one token at a time, then some together, and one that leaves a character incomplete.
GROUPS, HIDDEN = (1, 1, 1, 2, 1, 3, 1), frozenset({9})


def keep(engine: Engine) -> None:
    """Writes the stream of one engine."""
    if not isinstance(engine.dialect, Dialect):
        return
    if engine.attach_only:  # there is no server of its own to ask
        with null_server(0.0, 0.0) as endpoint:
            kept = _asked(engine, "127.0.0.1", endpoint.port)
    elif engine.name == "lmdeploy":
        kept = recorded(lmdeploy_here(Path(os.devnull)))
    elif engine.native.command:
        kept = recorded(engine)
    else:
        kept = reconstructed(engine)
    (STREAMS / f"{engine.name}.sse").write_bytes(kept)


def recorded(engine: Engine) -> bytes:
    """What the engine itself answers, started here with the model `tiny`."""
    work = Workload(input_tokens=len(PROMPT), output_tokens=OUTPUT_TOKENS, load=(load(1),))
    with started_here(engine, work) as running:
        return _asked(engine, running.requests.host, running.requests.port)


def reconstructed(engine: Engine) -> bytes:
    """What the engine would answer as far as its source says."""
    plan = Plan(version=engine.version, groups=GROUPS, hidden=HIDDEN)
    _, events = scripted(engine, wire_engines.load()[engine.name], plan, QUESTION)
    return b"".join(event.data for event in events)


def _asked(engine: Engine, host: str, port: int) -> bytes:
    assert isinstance(engine.dialect, Dialect)
    connection = http.client.HTTPConnection(host, port)
    connection.request("GET", "/v1/models")
    name = json.loads(connection.getresponse().read())["data"][0]["id"]
    prompt = tiny_texts().text(PROMPT) if engine.dialect.prompt == "text" else PROMPT
    body = engine.dialect.body(prompt, OUTPUT_TOKENS, more={"model": name})
    connection.request("POST", engine.dialect.route, body, {"Content-Type": "application/json"})
    # A server that is given a folder calls the model by its path.
    return connection.getresponse().read().replace(json.dumps(name).encode(), b'"bench"')


if __name__ == "__main__":
    known = engines.load()
    for wanted in sys.argv[1:] or known:
        keep(known[wanted])
