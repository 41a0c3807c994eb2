"""Differences between candidates: a doubt where nobody says so, a note where the candidate's own table does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.judge.comparison import compare
from tests.invented import ALPHA, BETA, campaign, manifest
from tests.invented_runs import Run
from tests.judge.checking import check

GAMMA = replace(BETA, name="gamma", title="Gamma")
SETTINGS = manifest(ALPHA).endpoint.settings


def with_settings(**changes: Any) -> dict[str, Any]:
    return {"endpoint__settings": {**SETTINGS, **changes}}


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        ({}, "doubt"),
        ({"profile": {"context_tokens": 2048}}, "note"),
        ({"profile.context_tokens": 2048}, "note"),
        ({"args": ["--max-model-len", "2048"]}, "note"),
        ({"env": {"CONTEXT": "2048"}}, "note"),
        ({"profile": {"threads": 4}}, "doubt"),
        ({"version": "1.3.0"}, "doubt"),  # another version is no other context
    ],
)
def test_a_setting_that_differs_is_a_note_only_where_its_table_declares_it(
    run: Run, given: dict[str, Any], verdict: str
) -> None:
    runs = [run(), run(BETA, candidate__given=given, **with_settings(context_tokens=2048))]
    mine, other = check(runs, "CONFIG_PARITY", "beta"), check(runs, "CONFIG_PARITY")
    assert mine.verdict == verdict
    assert other.verdict == ("doubt" if verdict == "doubt" else "ok")
    if verdict == "note":
        assert "As a result: context_tokens 2048 instead of 1024." in mine.message
        assert mine.message.startswith("Declared: ")


def test_what_a_table_declares_is_told_even_where_no_setting_shows_it(run: Run) -> None:
    given = {"args": ["--quantization", "fp8"], "env": {"A": "1"}, "image": "beta:2", "model": "./q", "url": "u"}
    found = check([run(), run(BETA, candidate__given=given)], "CONFIG_PARITY", "beta")
    assert (found.verdict, found.message) == ("note", "Declared: args --quantization fp8; env A=1; image beta:2.")


def test_a_declaration_hides_no_difference_between_the_others(run: Run) -> None:
    given = {"profile": {"context_tokens": 4096}}
    runs = [
        run(),
        run(BETA, **with_settings(context_tokens=2048)),
        run(GAMMA, candidate__given=given, **with_settings(context_tokens=4096)),
    ]
    found = check(runs, "CONFIG_PARITY")
    assert found.verdict == check(runs, "CONFIG_PARITY", "beta").verdict == "doubt"
    assert found.numbers["differ"] == {"context_tokens": {"alpha": "1024", "beta": "2048"}}
    assert check(runs, "CONFIG_PARITY", "gamma").verdict == "note"


def test_spare_context_that_the_engine_file_explains_is_a_note(run: Run) -> None:
    why = {"context": "2 tokens more than asked"}
    runs = [run(), run(BETA, endpoint__declared=why, **with_settings(context_tokens=1026))]
    found = check(runs, "CONFIG_PARITY", "beta")
    assert (found.verdict, found.message) == ("note", "context_tokens 1026: 2 tokens more than asked.")
    assert check(runs, "CONFIG_PARITY").verdict == "ok"
    less = [run(), run(BETA, endpoint__declared=why, **with_settings(context_tokens=1000))]
    assert check(less, "CONFIG_PARITY", "beta").verdict == "doubt"


def test_room_for_the_cache_follows_the_context(run: Run) -> None:
    runs = [
        run(**with_settings(kv_tokens=1024)),
        run(BETA, candidate__given={"profile": {"context_tokens": 2048}}, **with_settings(kv_tokens=2048)),
    ]
    assert check(runs, "CONFIG_PARITY", "beta").verdict == "note"


def test_precision_looks_at_every_round(run: Run) -> None:
    runs = [run(), run(BETA), run(round_index=2), run(BETA, round_index=2, model__weight_dtype="fp8")]
    found = check(runs, "PRECISION", "beta")
    assert found.verdict == "doubt" and "bfloat16 | fp8" in found.message


def test_a_cache_of_as_many_bits_is_a_note(run: Run) -> None:
    runs = [run(), run(BETA, model__kv_dtype="float16")]
    found = check(runs, "PRECISION", "beta")
    assert (found.verdict, found.message) == ("note", "KV cache float16 instead of bfloat16 (the same number of bits).")
    assert check(runs, "PRECISION").verdict == "ok"
    assert check(runs, "CONFIG_PARITY", "beta").verdict == "ok"


@pytest.mark.parametrize("changes", [{"model__weights": "./q8"}, {"candidate__given": {"model": "./q8"}}])
def test_other_weights_that_are_declared_are_a_note_and_in_the_title(run: Run, changes: dict[str, Any]) -> None:
    runs = [run(), run(BETA, model__weight_dtype="Q8_0", probe__answer_ids=(5, 9, 7, 8), **changes)]
    found = check(runs, "PRECISION", "beta")
    assert (found.verdict, found.message) == ("note", "Declared: Q8_0 weights from ./q8 instead of bfloat16.")
    assert check(runs, "PRECISION").verdict == "ok"
    assert check(runs, "ANSWERS", "beta").verdict == "note"
    assert compare(runs, campaign()).candidate("beta").title == "Beta Q8_0"


def test_other_weights_that_nobody_declares_are_a_doubt_for_both(run: Run) -> None:
    runs = [run(), run(BETA, model__weight_dtype="Q8_0")]
    assert check(runs, "PRECISION").verdict == check(runs, "PRECISION", "beta").verdict == "doubt"
    assert compare(runs, campaign()).candidate("beta").title == "Beta"


@pytest.mark.parametrize(
    ("counts", "verdict", "said"),
    [((1, 1), "ok", "1 GPU for every candidate"), ((1, 2), "doubt", "1 GPU against 2"), ((0, 0), "ok", "No GPU"),
     ((None, 2), "ok", "not known")],
)  # fmt: skip
def test_gpus(run: Run, counts: tuple[int | None, int | None], verdict: str, said: str) -> None:
    runs = [run(endpoint__gpus=counts[0]), run(BETA, endpoint__gpus=counts[1])]
    found = check(runs, "GPUS")
    assert found.verdict == verdict and said in found.message


def test_two_gpus_are_marked_at_both_candidates(run: Run) -> None:
    found = check([run(endpoint__gpus=1), run(BETA, endpoint__gpus=2)], "GPUS", "beta")
    assert (found.verdict, found.message) == ("doubt", "2 GPUs against 1.")


@pytest.mark.parametrize(
    ("places", "verdict", "said"),
    [((True, True), "ok", "share a machine"), ((False, False), "note", "every latency includes the network"),
     ((True, False), "doubt", "other candidates differ"), ((None, None), "note", "not known")],
)  # fmt: skip
def test_network(run: Run, places: tuple[bool | None, bool | None], verdict: str, said: str) -> None:
    runs = [run(endpoint__same_machine=places[0]), run(BETA, endpoint__same_machine=places[1])]
    for name in ("alpha", "beta"):
        found = check(runs, "NETWORK", name)
        assert found.verdict == verdict and said in found.message


def test_a_note_is_no_doubt_of_the_cell(run: Run) -> None:
    runs = [run(round_index=r) for r in (1, 2)] + [run(BETA, round_index=r, model__kv_dtype="float16") for r in (1, 2)]
    comparison = compare(runs, campaign())
    cell = comparison.cell("beta", "c1")
    assert cell is not None and cell.verdict == "note"
    pair = comparison.pair("beta", "alpha", "c1", "output_throughput")
    assert pair is not None and pair.verdict == "faster"
