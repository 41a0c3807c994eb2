"""A server that already ran: what it does not tell is one note, in one check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from harness.judge.comparison import compare
from harness.records.request import RequestRecord
from tests.invented import ALPHA, BETA, ONE, campaign, records
from tests.invented_runs import Run
from tests.judge.checking import check

SILENT: dict[str, Any] = {
    "endpoint__launch": "attach",
    "endpoint__url": "http://server.example",
    "endpoint__version": None,
    "endpoint__tested_version": None,
    "endpoint__settings": {},
    "endpoint__gpus": None,
    "endpoint__device": None,
    "endpoint__unknown": {"version": "it has no endpoint for it", "prefix_cache": "it has no endpoint for it"},
    "model__kv_dtype": None,
}


def silent_rows(**changes: Any) -> list[RequestRecord]:
    return [replace(row, **changes) for row in records(BETA, ONE)]


def test_everything_that_is_not_known_is_one_note(run: Run) -> None:
    rows = silent_rows(prompt_tokens=None, reported_tokens=None, cached_tokens=None)
    runs = [run(round_index=r) for r in (1, 2)] + [run(BETA, round_index=r, rows=rows, **SILENT) for r in (1, 2)]
    cell = compare(runs, campaign()).cell("beta", "c1")
    assert cell is not None
    assert not [c.code for c in cell.checks if c.verdict in ("doubt", "invalid")]
    message = next(c.message for c in cell.checks if c.code == "CONFIG_PARITY")
    assert message.count(". ") == 0 and message.startswith(
        "Beta, a server that already ran, does not report: version, prefix cache ("
    )
    for name in ("kv dtype", "gpus", "context tokens", "threads", "output tokens", "prompt tokens"):
        assert name in message
    assert message.count("prefix cache") == 1
    other = compare(runs, campaign()).cell("alpha", "c1")
    assert other is not None and other.verdict == "note"  # few waves; what is not known is no difference


def test_what_it_does_tell_is_compared(run: Run) -> None:
    told = {**SILENT, "endpoint__settings": {"context_tokens": 2048}}
    found = check([run(), run(BETA, **told)], "CONFIG_PARITY")
    assert found.numbers["differ"] == {"context_tokens": {"alpha": "1024", "beta": "2048"}}


def test_a_server_that_tells_everything_is_no_doubt(run: Run) -> None:
    found = check([run(), run(BETA, endpoint__launch="attach", endpoint__url="http://x")], "CONFIG_PARITY", "beta")
    assert found.verdict == "ok"


def test_answers_without_ids_are_told_once(run: Run) -> None:
    runs = [run(), run(BETA, probe=None, **SILENT)]
    assert check(runs, "ANSWERS", "beta").verdict == "note"
    assert "ids of its answers" in check(runs, "CONFIG_PARITY", "beta").message
    assert "settings" not in check([run(**SILENT)], "CONFIG_PARITY").message  # their names stand there


def test_a_run_by_itself_has_the_note_too(run: Run) -> None:
    found = check([run(**{**SILENT, "endpoint__unknown": {}})], "CONFIG_PARITY")
    assert found.verdict == "note" and "settings" in found.message


@pytest.mark.parametrize(
    ("cached", "verdict", "said"),
    [(0, "ok", "no prompt token"), (8, "doubt", "32 of 64 prompt tokens came from the cache (50.0%)")],
)  # fmt: skip
def test_the_cache_is_judged_by_what_it_reports(run: Run, cached: int, verdict: str, said: str) -> None:
    found = check([run(), run(BETA, rows=silent_rows(cached_tokens=cached), **SILENT)], "PREFIX_CACHE", "beta")
    assert found.verdict == verdict and said in found.message


@pytest.mark.parametrize(
    ("offset", "counted", "verdict", "said"),
    [
        (11, 27, "note", "a chat template adds +11 tokens to each"),
        (11, 28, "invalid", "+1 to +1 tokens besides the +11"),
        (0, 16, "ok", "as many prompt tokens as were sent"),
        (None, 16, "ok", "as many prompt tokens as were sent"),
        (None, 27, "invalid", "+11"),
    ],
)
def test_a_chat_template_is_learned_not_blamed(
    run: Run, offset: int | None, counted: int, verdict: str, said: str
) -> None:
    found = check([run(rows=records_with(counted), probe__prompt_offset=offset)], "PROMPT_PARITY")
    assert found.verdict == verdict and said in found.message


def test_a_cache_of_which_nothing_is_known_is_told_once(run: Run) -> None:
    runs = [run(), run(BETA, rows=silent_rows(cached_tokens=None), **SILENT)]
    with pytest.raises(StopIteration):
        check(runs, "PREFIX_CACHE", "beta")
    assert "cached tokens" in check(runs, "CONFIG_PARITY", "beta").message


def prompts(counted: Sequence[int], sent: Sequence[int]) -> list[RequestRecord]:
    rows = records(ALPHA, ONE)
    return [replace(r, prompt_tokens=c, sent_tokens=s) for r, c, s in zip(rows, counted, sent, strict=True)]


@pytest.mark.parametrize(
    ("counted", "sent", "prompt_as", "verdict", "said"),
    [
        ((27, 27, 27, 27), (16, 16, 16, 16), "chat", "note", "a chat template adds +11 tokens to each"),
        (
            (17, 33, 41, 65),
            (16, 32, 40, 64),
            "text",
            "note",
            "the server adds +1 token (its BOS or a template) to each",
        ),
        ((15, 15, 15, 15), (16, 16, 16, 16), "text", "note", "counts -1 token (no BOS of its own) of each"),
        ((11, 27, 35, 59), (16, 32, 40, 64), "text", "note", "counts -5 tokens"),
        ((60, 76, 84, 108), (16, 32, 40, 64), "chat", "doubt", "38 were sent: TTFT is that of prompts more than twice"),
        ((12, 12, 12, 12), (16, 16, 16, 16), "text", "invalid", "-4 to -4"),  # it may have been cut to the context
        ((16, 32, 32, 32), (16, 32, 40, 64), "text", "invalid", "-32 to -8"),
        ((17, 31, 42, 61), (16, 32, 40, 64), "text", "doubt", "the server's tokenizer is not the one"),
        ((28, 42, 53, 72), (16, 32, 40, 64), "chat", "doubt", "the server's tokenizer is not the one"),
        ((0, 0, 0, 0), (16, 32, 40, 64), "text", "note", "reported no prompt count"),
        ((17, 31, 42, 61), (16, 32, 40, 64), "ids", "invalid", "-3 to +2"),
    ],
    ids=["template", "BOS", "no BOS", "fewer", "long", "cut", "cut to one length", "tokenizer", "both", "zero", "ids"],
)
def test_what_every_prompt_has_alike_is_learned_from_the_run(
    run: Run, counted: Sequence[int], sent: Sequence[int], prompt_as: str, verdict: str, said: str
) -> None:
    changes = {**SILENT, "probe__prompt_offset": None, "probe__prompt_tokens": None, "probe__prompt_as": prompt_as}
    found = check([run(rows=prompts(counted, sent), **changes)], "PROMPT_PARITY")
    assert found.verdict == verdict and said in found.message


def test_what_the_probe_saw_vary_is_not_learned_from_prompts_of_one_length(run: Run) -> None:
    changes = {**SILENT, "probe__prompt_offset": None, "probe__prompt_tokens": 40}
    assert check([run(rows=records_with(27), **changes)], "PROMPT_PARITY").verdict == "invalid"


@pytest.mark.parametrize(("offset", "verdict"), [(16, "note"), (20, "doubt")])
def test_a_template_that_makes_prompts_twice_as_long_as_the_others_is_doubted(
    run: Run, offset: int, verdict: str
) -> None:
    changes = {**SILENT, "probe__prompt_offset": offset, "probe__prompt_as": "chat"}
    rows = [replace(r, prompt_tokens=16 + offset) for r in records(BETA, ONE)]
    runs = [run(), run(BETA, rows=rows, **changes)]
    found = check(runs, "PROMPT_PARITY", "beta")
    assert found.verdict == verdict and ("36 tokens on average, Alpha 16" in found.message) == (verdict == "doubt")
    assert check(runs, "PROMPT_PARITY").verdict == "ok"


@pytest.mark.parametrize("counted", [100.0, 10.0])
def test_the_counter_of_a_server_with_other_clients_is_a_doubt(run: Run, counted: float) -> None:
    found = check([run(**SILENT, counters={"output_tokens": counted})], "TOKEN_COUNT")
    assert found.verdict == "doubt" and f"counted {counted:.0f} generated tokens" in found.message


def test_an_offset_that_varies_is_invalid(run: Run) -> None:
    rows = records_with(27)
    rows[0] = replace(rows[0], prompt_tokens=29)
    found = check([run(rows=rows, probe__prompt_offset=11)], "PROMPT_PARITY")
    assert (found.verdict, found.numbers["differ"]) == ("invalid", 1)


def records_with(counted: int) -> list[RequestRecord]:
    return [replace(row, prompt_tokens=counted) for row in records(ALPHA, ONE)]
