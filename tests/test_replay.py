"""`harness replay` and `harness calibrate` from the front door, against the null server."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.parquet as pq
import pytest

from harness.driver.address import Address
from harness.model.tokenizer import Texts, find_tokenizer
from harness.nullengine.calibrate import PACES, null_server
from harness.paths import cache_folder
from harness.records.calibration import read_calibration
from harness.records.run import read_run
from harness.workload.lengths import Lengths
from tests.cli import harness
from tests.decode.test_exchange import DONE, EVENTS
from tests.openai_server import Server, answer, serving
from tests.wire import stream, wire_server

pytestmark = pytest.mark.live

SHAPE = ("--input-tokens", "16", "--output-tokens", "8")


@pytest.fixture(scope="module")
def served() -> Iterator[Address]:
    with null_server(0.02, 0.004) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def tokenizer() -> str:
    return str(find_tokenizer("tiny", cache_folder()).parent)


def replay(
    url: str, tokenizer: str, out: Path, *flags: str, engine: str = "openai", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    with mock.patch.dict(os.environ, env or {}):
        return harness(*arguments(url, tokenizer, out, *flags, engine=engine))


def arguments(url: str, tokenizer: str, out: Path, *flags: str, engine: str = "openai") -> tuple[str, ...]:
    asked = ("--url", url, "--engine", engine, "--model", "bench", "--tokenizer", tokenizer, "--out", str(out))
    return ("replay", *asked, *flags)


def assert_measured(done: subprocess.CompletedProcess[str]) -> None:
    """Nothing invalidates the run, unless this machine was too busy for the client to keep up."""
    rejecting = set(re.findall(r"^invalid: (\w+)", done.stdout, re.MULTILINE))
    assert rejecting <= {"CLIENT_LAG"} and done.returncode == bool(rejecting), done.stdout + done.stderr


def rows(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder / "requests.parquet").to_pylist()
    return found


def test_a_closed_loop_leaves_a_whole_run(served: Address, tokenizer: str, tmp_path: Path) -> None:
    out = tmp_path / "r"
    done = replay(served.url, tokenizer, out, *SHAPE, "--requests", "12", "--concurrency", "4")
    assert_measured(done)
    assert "TTFT" in done.stdout and str(out) in done.stdout.replace("\n", "")
    names = {path.name for path in out.iterdir()}
    wanted = {"manifest.json", "requests.parquet", "chunks.parquet", "samples.parquet", "vllm-bench.json"}
    assert names == wanted | {"launch.json", "calibration.json"}
    run = read_run(out)
    manifest = run.manifest
    assert (manifest.endpoint.launch, manifest.load.name, manifest.candidate.engine) == ("attach", "c4", "openai")
    assert manifest.endpoint.same_machine is True
    assert manifest.client.kernel_stamped_fraction == 1.0
    calibration = read_calibration(out)
    assert calibration is not None and [floor.load for floor in calibration.floors] == ["c4"] * len(PACES)
    assert all(r["status"] == "ok" and r["output_tokens"] == 8 and r["prompt_tokens"] == 16 for r in rows(out))
    assert {r["count_source"] for r in rows(out)} == {"final usage"}
    again = replay(served.url, tokenizer, out, *SHAPE, "--requests", "1")
    assert again.returncode == 2 and "is not empty" in again.stderr


def test_a_load_by_time_with_lengths_from_ranges(served: Address, tokenizer: str, tmp_path: Path) -> None:
    out = tmp_path / "r"
    flags = ("--input-tokens", "8:24", "--output-tokens", "4:12", "--concurrency", "4", "--at-least-s", "0.5")
    done = replay(served.url, tokenizer, out, *flags, "--at-least-requests", "8", "--at-most-s", "5", "--workers", "2")
    assert_measured(done)
    found, schedule = rows(out), read_run(out).manifest.schedule
    assert 8 <= len(found) < schedule.requests and {r["status"] for r in found} == {"ok"}
    assert max(r["sent_s"] for r in found) < 1.5  # not until the prompts run out
    assert (schedule.input_tokens, schedule.input_lengths) == (None, Lengths(8, 24))
    assert {r["output_tokens"] for r in found} <= set(range(4, 13)) and len({r["prompt_tokens"] for r in found}) > 8
    for wrong in ("x", "8:"):
        refused = replay(served.url, tokenizer, tmp_path / "b", "--input-tokens", wrong)
        assert refused.returncode == 2 and f"'{wrong}' is no number of tokens and no range such as" in refused.stderr


@pytest.mark.parametrize(
    ("flags", "name", "count"),
    [
        (("--requests", "6"), "offline", 6),
        pytest.param(("--requests", "8", "--rate", "40"), "r40", 8, marks=pytest.mark.slow),
        pytest.param(
            ("--requests", "8", "--rate", "40", "--arrivals", "gamma", "--burstiness", "0.5"),
            "r40-gamma0.5",
            8,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("--rate", "20", "--ramp-to", "60", "--duration-s", "0.4"), "r20-to-60-0.4s", 16, marks=pytest.mark.slow
        ),
        (("--requests", "6", "--batch", "3"), "b3", 6),
        pytest.param(
            ("--requests", "8", "--concurrency", "4", "--ramp-s", "0.2", "--workers", "2"),
            "c4-ramp0.2s",
            8,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_every_load(
    flags: tuple[str, ...], name: str, count: int, served: Address, tokenizer: str, tmp_path: Path
) -> None:
    done = replay(served.url, tokenizer, tmp_path / "r", *SHAPE, *flags, "--warmup")
    assert done.returncode in (0, 1), done.stderr  # 1: dispatched late on a busy machine
    assert read_run(tmp_path / "r").manifest.load.name == name
    assert [r["status"] for r in rows(tmp_path / "r")] == ["ok"] * count


def test_users_who_give_up_are_no_failures(served: Address, tokenizer: str, tmp_path: Path) -> None:
    flags = ("--requests", "10", "--concurrency", "5", "--cancel-fraction", "0.3", "--cancel-after-s", "0.03")
    done = replay(served.url, tokenizer, tmp_path / "r", "--input-tokens", "16", "--output-tokens", "50", *flags)
    assert_measured(done)
    assert sorted(r["status"] for r in rows(tmp_path / "r")) == ["cancelled"] * 3 + ["ok"] * 7


def test_a_chat_counts_what_was_said(served: Address, tokenizer: str, tmp_path: Path) -> None:
    url = served.url + "/v1/chat/completions"
    done = replay(url, tokenizer, tmp_path / "r", *SHAPE, "--requests", "4", "--concurrency", "2")
    assert done.returncode in (0, 1), done.stderr  # the null server counts words, not tokens
    assert all(r["status"] == "ok" and r["output_tokens"] == 8 for r in rows(tmp_path / "r"))
    assert json.loads((tmp_path / "r" / "launch.json").read_text()) == {"url": url}


@pytest.mark.slow
def test_a_trace_and_a_comparison_file(served: Address, tokenizer: str, tmp_path: Path) -> None:
    trace = tmp_path / "t.jsonl"
    lines = [{"at_s": 0.02 * i, "input_tokens": 10 + i, "output_tokens": 3 + i} for i in range(5)]
    trace.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = replay(served.url, tokenizer, tmp_path / "a", "--workload", str(trace))
    assert done.returncode in (0, 1), done.stderr
    assert [(r["prompt_tokens"], r["output_tokens"]) for r in rows(tmp_path / "a")] == [
        (10 + i, 3 + i) for i in range(5)
    ]
    file = tmp_path / "c.toml"
    file.write_text(
        'name = "x"\n[workload]\ninput_tokens = 16\noutput_tokens = 8\n'
        "[[workload.load]]\nconcurrency = 1\nrequests = 2\n[[workload.load]]\nrequests = 3\n"
    )
    done = replay(served.url, tokenizer, tmp_path / "b", "--workload", str(file))
    assert done.returncode in (0, 1), done.stderr
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"c1", "offline"}
    done = replay(served.url, tokenizer, tmp_path / "c", "--workload", str(file), "--concurrency", "2")
    assert done.returncode in (0, 1), done.stderr
    assert len(rows(tmp_path / "c")) == 3


def test_a_part_of_a_compressed_trace(served: Address, tokenizer: str, tmp_path: Path) -> None:
    trace = tmp_path / "t.csv.gz"
    lines = "".join(f"{100 + 0.02 * i},GPT-4,{10 + i},{i % 4}\n" for i in range(12))
    trace.write_bytes(gzip.compress(f"Timestamp,Model,Request tokens,Response tokens\n{lines}".encode()))
    part = ("--trace-from-s", "0.03", "--trace-for-s", "0.1", "--requests", "3", "--output-tokens", "5", "--seed", "7")
    done = replay(served.url, tokenizer, tmp_path / "r", "--workload", str(trace), *part)
    assert done.returncode in (0, 1), done.stderr
    found = [(r["prompt_tokens"], r["output_tokens"], round(r["scheduled_s"], 6)) for r in rows(tmp_path / "r")]
    assert found == [(12, 5, 0.0), (13, 5, 0.02), (15, 5, 0.06)]
    said = (
        "trace t.csv.gz (burstgpt): 12 requests read, 8 left out because no output tokens (3), outside the window (5)"
    )
    schedule = read_run(tmp_path / "r").manifest.schedule
    assert schedule.seed == 7 and schedule.trace is not None and schedule.trace.words == f"{said}; not used: Model"
    assert said in " ".join(done.stdout.split())


@pytest.mark.parametrize("path", ["", "/v1/chat/completions"])
def test_the_key_is_sent_and_stored_nowhere(path: str, tokenizer: str, tmp_path: Path) -> None:
    heard: list[bytes] = []
    key = "sk-very-secret"
    refusal = b'{"error":{"message":"Incorrect API key: sk-very-secret"}}'
    answer = b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n%s" % (len(refusal), refusal)
    with wire_server(lambda n: [answer], heard=heard) as endpoint:
        flags = ("--requests", "2", "--field", "user=x", "--field", "ignore_eos=true")
        done = replay(endpoint.url + path, tokenizer, tmp_path / "r", *SHAPE, *flags, env={"OPENAI_API_KEY": key})
    assert done.returncode == 1
    asked_for = [request for request in heard if request]
    # A chat is asked before what its template adds; elsewhere nothing is sent but what was wanted.
    assert len(asked_for) == (3 if path else 2)
    assert all(b"Authorization: Bearer sk-very-secret" in request for request in asked_for)
    asked = json.loads(asked_for[-1].split(b"\r\n\r\n", 1)[1])
    assert (asked["model"], asked["ignore_eos"], asked["user"]) == ("bench", True, "x")
    assert path or len(asked["prompt"]) == 16
    assert {r["error"] for r in rows(tmp_path / "r")} == {"HTTP 401: Incorrect API key: ***; check the API key"}
    assert key not in done.stdout + done.stderr
    kept = [path for path in (tmp_path / "r").rglob("*") if path.is_file()]
    assert {"manifest.json", "requests.parquet", "launch.json"} <= {path.name for path in kept}
    for file in kept:
        assert key.encode() not in file.read_bytes(), file.name
    probe = read_run(tmp_path / "r").manifest.probe
    why = "failed the probe request: HTTP 401: Incorrect API key: ***; check the API key"
    assert probe is not None and probe.problem == (why if path else None)


def test_fields_that_a_gateway_refuses_are_left_out_or_renamed(tokenizer: str, tmp_path: Path) -> None:
    """It says what is wrong with each request, and the line says which flag changes that."""
    server, flags = Server(), ["--requests", "2"]
    refusals = (
        ("Unrecognized request argument supplied: stream_options", ("--no-field", "stream_options")),
        ("Unknown parameter: 'max_tokens'. Use 'max_completion_tokens'.", ("--length-field", "max_completion_tokens")),
    )
    with serving(server) as address:
        for i, (said, flag) in enumerate(refusals):
            server.refuses = answer(json.dumps({"error": {"message": said}}), "400 Bad Request")
            done = replay(address.url, tokenizer, tmp_path / str(i), *SHAPE, *flags)
            assert done.returncode == 1 and " ".join(flag) in " ".join(done.stdout.split())
            flags += flag
        done = replay(address.url, tokenizer, tmp_path / "x", *SHAPE, *flags)
    assert server.asked[-1].keys() == {"model", "prompt", "max_completion_tokens", "temperature", "stream"}
    probe = read_run(tmp_path / "x").manifest.probe
    assert probe is not None and (probe.length_field, probe.prompt_as) == ("max_completion_tokens", "ids")
    assert "requests without stream_options; the length asked for in max_completion_tokens" in " ".join(
        done.stdout.split()
    )


def test_a_plain_server_has_no_doubt_of_its_own(served: Address, tokenizer: str, tmp_path: Path) -> None:
    done = replay(served.url, tokenizer, tmp_path / "r", *SHAPE, "--requests", "30", "--concurrency", "2")
    about_this_machine = {"CPU_CONTENTION", "CLIENT_LAG", "STEADY_STATE", "WARMUP", "STALL"}
    assert set(re.findall(r"^(?:doubt|invalid): (\w+)", done.stdout, re.MULTILINE)) <= about_this_machine
    notes = re.findall(r"^note: (\w+)", done.stdout, re.MULTILINE)
    assert [note for note in notes if note not in about_this_machine] == ["CONFIG_PARITY"]


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_the_tokenizers_own_bos_is_part_of_a_text_prompt(path: str, tokenizer: str, tmp_path: Path) -> None:
    """16 tokens by the server's tokenizer, which puts its BOS before a text; a chat's template brings its own."""
    file = with_bos(Path(tokenizer), tmp_path / "bos")
    texts = Texts(file / "tokenizer.json")
    with serving(server := Server()) as address:
        replay(address.url + path, str(file), tmp_path / "r", *SHAPE, "--requests", "1", "--prompt", "text")
    body = server.asked[-1]
    text = body["messages"][0]["content"] if "messages" in body else body["prompt"]
    assert len(texts.tokenizer.encode(text, add_special_tokens="messages" not in body).ids) == 16


def with_bos(folder: Path, other: Path) -> Path:
    """A copy of a tokenizer that puts a token before every text."""
    content = json.loads((folder / "tokenizer.json").read_text())
    bos = content["added_tokens"][0]["content"] if content["added_tokens"] else "!"
    number = next(iter(content["added_tokens"]), {"id": content["model"]["vocab"].get(bos, 0)})["id"]
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {bos: {"id": bos, "ids": [number], "tokens": [bos]}},
    }
    other.mkdir()
    (other / "tokenizer.json").write_text(json.dumps(content))
    return other


def test_the_query_of_a_url_is_part_of_every_request_and_its_values_are_nowhere(tokenizer: str, tmp_path: Path) -> None:
    heard: list[bytes] = []
    login = b"<html><title>Sign in</title>"
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s" % (len(login), login)
    with wire_server(lambda n: [answer], heard=heard) as endpoint:
        url = f"{endpoint.url}/v1?api-version=2024-10-21&sig=very-secret#top"
        done = replay(url, tokenizer, tmp_path / "r", *SHAPE, "--requests", "2")
    assert {request.split(b" ")[1] for request in heard if request} == {
        b"/v1/completions?api-version=2024-10-21&sig=very-secret"
    }
    manifest = read_run(tmp_path / "r").manifest
    assert manifest.endpoint.url == f"{endpoint.url}/v1/completions?api-version=2024-10-21&sig=***"
    assert all(r["error"].endswith(': text/html page titled "Sign in"') for r in rows(tmp_path / "r"))
    assert "very-secret" not in done.stdout + done.stderr
    assert not any(b"very-secret" in path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("url", "said"),
    [("http://127.0.0.1:9", "connection refused"), ("http://no-such-host.invalid", "does not resolve")],
)
def test_what_cannot_be_reached_is_recorded_in_little_time(url: str, said: str, tokenizer: str, tmp_path: Path) -> None:
    began = time.monotonic()
    done = replay(url, tokenizer, tmp_path / "r", *SHAPE, "--requests", "50", "--concurrency", "4")
    assert done.returncode == 1 and time.monotonic() - began < 20
    assert len(rows(tmp_path / "r")) == 50 and all(said in r["error"] for r in rows(tmp_path / "r"))
    assert said in done.stdout


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--requests", "4", "--rate", "2", "--batch", "2"), "--batch"),
        (("--concurrency", "4"), "--requests"),
        (("--requests", "4", "--ramp-to", "2"), "--ramp-to"),
        (("--requests", "4", "--workers", "99"), "--workers is 99"),
        (("--requests", "4", "--field", "x"), "NAME=JSON"),
        (("--requests", "4", "--field", "x="), "write --no-field x."),
        (("--requests", "4", "--no-field", "prompt"), "prompt is the prompt"),
        (("--requests", "4", "--no-field", "max_tokens"), "--length-field"),
        (("--requests", "4", "--deadline-s", "0"), "--deadline-s"),
        (("--requests", "4", "--trace-for-s", "9"), "--trace-for-s is for a trace; name it with --workload."),
        (("--requests", "1000000", "--input-tokens", "1000"), "at most 500,000,000 are prepared"),
        (("--requests", "4", "--concurrency", "1000000000"), "--concurrency is 1000000000; it must be at most 100000"),
    ],
)
def test_what_contradicts_itself_is_one_line(flags: tuple[str, ...], said: str, tokenizer: str, tmp_path: Path) -> None:
    done = harness(*arguments("http://127.0.0.1:9", tokenizer, tmp_path / "r", *SHAPE, *flags))
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_an_unknown_engine_or_tokenizer_is_one_line(tokenizer: str, tmp_path: Path) -> None:
    done = harness(*arguments("http://127.0.0.1:9", tokenizer, tmp_path / "r", *SHAPE, "--requests", "1", engine="vlm"))
    assert done.returncode == 2 and "Did you mean" in done.stderr
    done = harness(*arguments("http://127.0.0.1:9", str(tmp_path), tmp_path / "r", *SHAPE, "--requests", "1"))
    assert done.returncode == 2 and "no tokenizer.json" in done.stderr
    done = harness(*arguments("ftp://127.0.0.1:9", tokenizer, tmp_path / "r", *SHAPE, "--requests", "1"))
    assert done.returncode == 2 and "give http://HOST:PORT" in done.stderr


def test_interrupted_tells_the_server_and_leaves_nothing_that_looks_whole(tokenizer: str, tmp_path: Path) -> None:
    heard: list[bytes] = []
    with wire_server(lambda n: [0.3, stream(*EVENTS, DONE)] if n < 2 else [30.0], heard=heard) as endpoint:
        command = [sys.executable, "-m", "harness.cli", "replay", "--url", endpoint.url, "--engine", "openai"]
        command += ["--model", "m", "--tokenizer", tokenizer, "--out", str(tmp_path / "r"), *SHAPE]
        process = subprocess.Popen(
            [*command, "--requests", "9", "--concurrency", "2"], stderr=subprocess.PIPE, text=True
        )
        until = time.monotonic() + 60
        while len([h for h in heard if h]) < 4 and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted" in said
    assert not (tmp_path / "r" / "manifest.json").exists()
    assert [r["error"] for r in rows(tmp_path / "r")] == [None, None, "interrupted", "interrupted"]


@pytest.mark.slow
def test_calibrate_prints_the_floor_of_every_load(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        'name = "x"\n[workload]\ninput_tokens = 16\noutput_tokens = 8\n'
        "[[workload.load]]\nconcurrency = 4\nrequests = 8\n[[workload.load]]\nrate = 20.0\nrequests = 20\n"
    )
    command = [sys.executable, "-m", "harness.cli", "calibrate", str(file), "--out", str(tmp_path / "o")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = read_calibration(tmp_path / "o")
    assert found is not None
    assert [floor.load for floor in found.floors] == ["c4"] * len(PACES) + ["r20"]
    fast = [floor.tokens_per_s for floor in found.floors[: len(PACES)]]
    assert fast == sorted(fast) and fast[-1] > 5 * fast[0]  # each pace is a harder load for the client
    for floor in found.floors:
        assert floor.load in done.stdout
        assert floor.failed == 0
        assert floor.ttft_error_p50_s is not None and -1e-5 < floor.ttft_error_p50_s < 0.005
        assert floor.tpot_error_p99_s is not None and floor.tpot_error_p99_s < 0.002
