"""`harness compare` with prompts of real text: to engines that take ids and to chats, and its answers to be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.records.schedules import read_schedule
from tests.compare_parts import harness
from tests.openai_server import Server, serving
from tests.wire_engines.onwire import tiny_texts

pytestmark = pytest.mark.live

PLAN = """
name = "texts"
rounds = 1
[workload]
texts = "mine.jsonl"
ends = "natural"
output_tokens = 8
[[workload.load]]
concurrency = 1
requests = 6
[[candidate]]
engine = "fake"
[[candidate]]
name = "fake-chat"
engine = "fake"
prompt = "chat"
[[candidate]]
name = "by-text"
engine = "openai"
url = "{url}/v1"
served_model = "m"
prompt = "text"
[[candidate]]
name = "by-chat"
engine = "openai"
url = "{url}/v1"
served_model = "m"
prompt = "chat"
"""
WRITTEN = ("Say <b>hello</b>.", "Name a river\nand a lake.", "The end is <|endoftext|> near.")


def test_real_text_reaches_every_candidate_in_its_form_and_the_answers_are_shown(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text("\n".join(json.dumps({"prompt": text}) for text in WRITTEN))
    special = tiny_texts().encode(WRITTEN[2]) is None
    server, folder = Server(lambda sent: 0), tmp_path / "r"
    with serving(server) as address:
        file = tmp_path / "c.toml"
        file.write_text(PLAN.format(url=f"http://127.0.0.1:{address.port}"))
        done = harness("compare", file, "--results", folder)
        again = harness("compare", file, "--resume", folder)
    assert f"texts mine.jsonl: 3 read{', 1 left out' if special else ''}" in done.stdout + done.stderr
    assert done.returncode in (0, 1) and "Traceback" not in done.stderr, done.stderr
    assert again.returncode == done.returncode, again.stderr
    texts = set(WRITTEN[: 2 if special else 3])
    sent = {body["messages"][0]["content"] if "messages" in body else body["prompt"] for body in server.asked}
    assert texts < sent and {"messages" in body for body in server.asked} == {True, False}
    ids = {request.prompt_ids for request in read_schedule(folder / "schedule" / "c1" / "round-1.parquet").requests}
    assert {tiny_texts().text(one) for one in ids} == texts
    comparison = json.loads((folder / "comparison.json").read_text())
    assert {one["prompt"] for one in comparison["texts"]} <= {" ".join(text.split()) for text in texts}
    assert [said["candidates"] for said in comparison["texts"][0]["said"]] == [["by-text"], ["by-chat"]]
    assert {said["text"] for one in comparison["texts"] for said in one["said"]} == {" ".join("a" * 8)}
    page = (folder / "report.html").read_text()
    assert "Answers beside each other" in page and "Say &lt;b&gt;hello&lt;/b&gt;." in page
    manifest = json.loads((folder / "runs" / "fake-chat" / "c1" / "round-1" / "manifest.json").read_text())
    assert manifest["endpoint"]["declared"]["prompt"].startswith("one user message, through the engine's chat template")
    assert manifest["schedule"]["ends"] == "natural" and "ignore_eos" not in manifest["probe"]["asked_for"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("mine.jsonl", "none.txt"), "none.txt: cannot read the texts"),
        (('engine = "openai"', 'engine = "triton"'), "prompt is chat, but TensorRT-LLM on Triton takes text"),
        (("output_tokens = 8", "output_tokens = 1020"), "texts (1 are too long) exceed profile.context_tokens = 1024"),
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    (tmp_path / "mine.jsonl").write_text(json.dumps({"prompt": "A text of more than four tokens, it seems to me."}))
    file = tmp_path / "c.toml"
    file.write_text(
        PLAN.replace(*change).replace('prompt = "text"', 'prompt = "chat"').format(url="http://127.0.0.1:9")
    )
    done = harness("compare", file, "--results", tmp_path / "r")
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
