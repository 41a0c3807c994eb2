"""LMDeploy's own command and server, over a stand-in for its compiled engine: what the harness measures of them,
requests that are given up, and whether tests/wire_engines/lmdeploy.py and tests/streams/lmdeploy.sse are like them.

CI installs it; elsewhere the tests are skipped until `python -m tests.lmdeploy_server` has done so."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from harness.errors import INVALID_CELLS, CannotStart
from harness.launch.install import is_installed
from harness.paths import cache_folder
from harness.workload.spec import Workload
from tests.cli import harness
from tests.conformance_parts import serving, shapes
from tests.lmdeploy_server import lmdeploy_here
from tests.loads import load
from tests.parts import IN_CI, missing
from tests.record_streams import OUTPUT_TOKENS, PROMPT, STREAMS
from tests.started import started_here

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
LOADS = {"c1": 4, "c32": 64}  # the second is more than it runs at once: the rest waits
PLAN = """
name = "lmdeploy"
rounds = 1
[workload]
input_tokens = 64
output_tokens = 32
[[workload.load]]
concurrency = 1
requests = 4
[[workload.load]]
concurrency = 32
requests = 64
[[candidate]]
engine = "lmdeploy"
url = "{url}"
"""
ASKED = {"input_ids": PROMPT, "max_tokens": OUTPUT_TOKENS, "ignore_eos": True, "top_k": 1, "stream": True}


@dataclass(frozen=True)
class Served:
    url: str
    log: Path

    def requests(self) -> list[dict[str, Any]]:
        """What the engine was asked so far, in the order in which the answers ended."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    log = tmp_path_factory.mktemp("lmdeploy") / "requests.jsonl"
    engine = lmdeploy_here(log)
    if not IN_CI and not is_installed(engine, "cpu", engine.version, cache_folder()):
        pytest.skip("python -m tests.lmdeploy_server installs LMDeploy")
    work = Workload(input_tokens=64, output_tokens=32, load=(load(4),))
    try:
        with started_here(engine, work) as running:
            yield Served(f"http://127.0.0.1:{running.requests.port}", log)
    except CannotStart as problem:
        missing(str(problem))


def test_it_is_measured_to_the_token(served: Served, tmp_path: Path) -> None:
    before = len(served.requests()) if served.log.exists() else 0
    file = tmp_path / "plan.toml"
    file.write_text(PLAN.format(url=served.url))
    done = harness("compare", file, "--results", tmp_path / "r")
    assert done.returncode == INVALID_CELLS, done.stderr + done.stdout  # alone: nothing to compare with
    for name, requests in LOADS.items():
        run = tmp_path / "r" / "runs" / "lmdeploy" / name / "round-1"
        rows = pq.read_table(run / "requests.parquet").to_pydict()
        assert len(rows["error"]) == requests and set(rows["error"]) == {None}
        assert set(rows["output_tokens"]) == set(rows["reported_tokens"]) == {32}
        assert (set(rows["prompt_tokens"]), set(rows["finish_reason"])) == ({64}, {"length"})
        manifest = json.loads((run / "manifest.json").read_text())
        assert manifest["counters"] == {
            "prompt_tokens": 64 * requests,
            "cached_tokens": 0,
            "output_tokens": 32 * requests,
        }
        assert manifest["probe"]["answer_ids"]
        assert "version" in manifest["endpoint"]["unknown"]
        tokens = pq.read_table(run / "chunks.parquet").to_pydict()["tokens"]
        assert sum(tokens) == 32 * requests and max(tokens) > 1
    # The engine itself was asked for exactly what the engine file says: greedy, and never to stop at an end.
    seen = served.requests()[before:]
    assert {(one["top_k"], one["stops"], one["cancelled"]) for one in seen} == {(1, False, False)}
    assert all(one["generated"] == one["max_new_tokens"] for one in seen)


def test_requests_that_are_given_up_end_there_and_the_next_are_answered(served: Served, tmp_path: Path) -> None:
    before = len(served.requests()) if served.log.exists() else 0
    model = tmp_path / "model"
    asked = ["--model", "bench", "--tokenizer", "tiny", "--input-tokens", "16", "--output-tokens", "900"]
    asked += ["--requests", "8", "--concurrency", "8", "--deadline-s", "0.5"]
    done = harness("replay", "--url", served.url, "--engine", "lmdeploy", *asked, "--out", model)
    rows = pq.read_table(model / "requests.parquet").to_pydict()
    assert set(rows["status"]) == {"failed"} and all(0 < n < 900 for n in rows["output_tokens"]), done.stderr
    until = time.monotonic() + 20
    while len(seen := [one for one in served.requests()[before:] if one["max_new_tokens"] == 900]) < 8:
        assert time.monotonic() < until, seen
        time.sleep(0.1)
    assert all(one["cancelled"] and one["generated"] < 900 for one in seen)
    again = httpx.post(f"{served.url}/generate", json=ASKED, trust_env=False)
    assert again.text.endswith("data: [DONE]\n\n")


def test_the_recorded_stream_is_what_it_sends(served: Served) -> None:
    sent = httpx.post(f"{served.url}/generate", json=ASKED, trust_env=False)
    kept = (STREAMS / "lmdeploy.sse").read_bytes()
    assert shapes(sent.content) == shapes(kept)
    assert ids(sent.content) == ids(kept)


def ids(body: bytes) -> list[int]:
    events = [json.loads(event[6:]) for event in body.split(b"\n\n")[:-2]]
    return [token for event in events for token in event["output_ids"]]


@pytest.mark.parametrize(
    "body",
    [
        {**ASKED, "max_tokens": 0},
        {**ASKED, "prompt": "x"},
        {**ASKED, "input_ids": None},
        {**ASKED, "input_ids": [300] * 1030},
        {**ASKED, "max_tokens": 3, "stream": False},
    ],
    ids=["no tokens", "two prompts", "no prompt", "too long", "whole"],
)
def test_the_wire_server_answers_as_it_does(served: Served, body: dict[str, Any]) -> None:
    with serving(lmdeploy_here(served.log)) as wire:
        urls = (served.url, f"http://127.0.0.1:{wire.endpoint.port}")
        real, ours = (httpx.post(f"{url}/generate", json=body, trust_env=False) for url in urls)
    assert (ours.status_code, ours.headers["content-type"]) == (real.status_code, real.headers["content-type"])
    if real.status_code == 200:
        assert shapes(ours.content) == shapes(real.content)
    else:
        assert ours.json() == real.json()


def test_the_wire_server_has_its_pages(served: Served) -> None:
    with serving(lmdeploy_here(served.log)) as wire:
        urls = (served.url, f"http://127.0.0.1:{wire.endpoint.port}")
        health, models, nothing = (
            [httpx.get(url + path, trust_env=False) for url in urls] for path in ("/health", "/v1/models", "/nope")
        )
        series = [series_of(httpx.get(f"{url}/metrics", trust_env=False).text) for url in urls]
    assert health[0].json() == health[1].json() and nothing[0].json() == nothing[1].json()
    assert shapes(models[1].content) == shapes(models[0].content)
    assert series[1] <= series[0]


def series_of(page: str) -> set[str]:
    """Names and labels."""
    return {line.rpartition(" ")[0] for line in page.splitlines() if not line.startswith("#")}
