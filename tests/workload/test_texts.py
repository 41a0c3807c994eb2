"""Prompts of real text: read from files, dealt to requests, kept out of stored plans."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.workload.plan import Plan, read_plan, stored
from harness.workload.schedule import build_schedule, warmup_schedule
from harness.workload.texts import BUILT_IN_FILE, encode_texts, read_texts

PLAN = """
name = "x"
[workload]
texts = "{texts}"
output_tokens = 8
{more}
[[workload.load]]
requests = 7
"""


def plan_with(folder: Path, texts: str, more: str = "") -> Plan:
    file = folder / "c.toml"
    file.write_text(PLAN.format(texts=texts, more=more))
    return read_plan(file)


def encoded(plan: Plan) -> Plan:
    """Each text as the ids of its letters."""
    ids, facts = encode_texts(plan.workload.written, lambda text: tuple(map(ord, text)), "x", "5c")
    return replace(plan, workload=replace(plan.workload, encoded=ids, text_facts=facts))


def test_the_built_in_texts_are_a_hundred_different_ones_in_plain_ascii() -> None:
    texts, _ = read_texts(BUILT_IN_FILE)
    assert len(texts) == len(set(texts)) == 100
    assert all(text.isascii() and 20 < len(text) < 600 for text in texts)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.txt", b"one\r\n\n  two \n", ("one", "two")),
        ("a.TXT", b"\xef\xbb\xbfgr\xc3\xbc\xc3\x9fe", ("grüße",)),
        ("a.jsonl", b'{"prompt": "a\\nb", "more": 1}\n\n{"prompt": "c"}', ("a\nb", "c")),
    ],
)
def test_texts_are_lines_or_the_prompts_of_objects(
    tmp_path: Path, name: str, content: bytes, found: tuple[str, ...]
) -> None:
    (tmp_path / name).write_bytes(content)
    assert plan_with(tmp_path, name).workload.written == found


@pytest.mark.parametrize(
    ("name", "content", "more", "said"),
    [
        ("a.csv", b"x", "", "texts are a .txt file, one a line, or a .jsonl file"),
        ("a.txt", b" \n\n", "", "there is no text in it"),
        ("a.txt", b"\xff\xfe", "", "not UTF-8 text"),
        ("a.jsonl", b'{"prompt": "a"}\n{"text": "b"}', "", 'line 2 has no text as its "prompt"'),
        ("a.jsonl", b'{"prompt": 3}', "", 'line 1 has no text as its "prompt"'),
        ("a.jsonl", b"[" * 100_000, "", "line 1 is not JSON"),
        ("none.txt", None, "", "cannot read the texts"),
        ("a.txt", b"a", "input_tokens = 4", "workload.input_tokens and workload.texts exclude each other"),
        ("a.txt", b"a", "trace = 'a.csv'", "cannot read the trace"),
        ("a.txt", b"a", "texts_sha256 = 'ab'", "has other texts: its SHA-256 is ca978112"),
        ("a.txt", b"a", "ends = 'early'", "Invalid enum value 'early'"),
        ("", None, "input_tokens = 4\ntexts_sha256 = 'ab'", "texts_sha256 needs workload.texts"),
    ],
)
def test_mistakes_get_one_line(tmp_path: Path, name: str, content: bytes | None, more: str, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(HarnessError) as caught:
        plan_with(tmp_path, name, more)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_every_text_comes_once_before_any_comes_again_in_an_order_of_each_load_and_round(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a\nbb\nccc\n")
    work = encoded(plan_with(tmp_path, "a.txt")).workload
    (point,) = work.load
    schedule = build_schedule(work, point, 1, range(10))
    prompts = [request.prompt_ids for request in schedule.requests]
    assert Counter(prompts[:3]) == Counter(prompts[3:6]) == Counter(work.encoded)
    assert [len(ids) for ids in prompts] == [tokens for tokens, _ in work.lengths(7, f"1/{point.name}/1")]
    assert schedule == build_schedule(work, point, 1, range(10))
    orders = {tuple(r.prompt_ids for r in build_schedule(work, point, n, range(10)).requests) for n in range(1, 9)}
    assert len(orders) > 4
    assert {r.prompt_ids for r in warmup_schedule(work, point, 1, range(10)).requests} <= set(work.encoded)
    assert (work.longest, work.most_input_tokens, work.mean_input, work.first_text) == (3 + 8, 3, 2.0, (97,))


def test_a_plan_stores_their_hash_and_a_server_that_reads_nothing_gets_prompts_as_long(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a\nbb\nccc\n")
    plan = encoded(plan_with(tmp_path, "a.txt", "ends = 'natural'"))
    kept = stored(plan).workload
    assert (kept.written, kept.encoded, len(kept.texts_sha256), kept.ends) == ((), (), 64, "natural")
    blind = plan.workload.by_lengths
    schedule = build_schedule(blind, blind.load[0], 1, range(10))
    assert {len(r.prompt_ids) for r in schedule.requests} <= {1, 2, 3} and not blind.texts


def test_texts_that_change_on_the_way_are_left_out_and_counted() -> None:
    ids, facts = encode_texts(("a", "b", "c"), lambda text: None if text == "b" else (1, 2), "mine.txt", "5c")
    assert ids == ((1, 2), (1, 2)) and (facts.read, facts.left_out) == (3, 1)
    assert facts.words.startswith("texts mine.txt: 3 read, 1 left out because")
    with pytest.raises(HarnessError, match="none of them"):
        encode_texts(("a",), lambda text: None, "mine.txt", "5c")
