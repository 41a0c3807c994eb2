"""Answers as text: who gave which, where they part, and what they say where engines name no ids."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.judge.comparison import compare
from harness.judge.texts import SaidBy
from harness.records.manifest import PromptText
from harness.records.request import RequestRecord
from harness.report.page import html
from harness.report.table import markdown
from tests.invented import ALPHA, BETA, FOUR, Invented, campaign, records
from tests.invented_runs import Run
from tests.judge.checking import check

GAMMA = Invented("gamma", "Gamma", "#2da44e", 60.0, 11.0)
PROMPTS: dict[str, Any] = {"schedule__prompts": tuple(PromptText(index=i, text=f"Question {i}?") for i in range(4))}


def saying(engine: Invented, *texts: str) -> list[RequestRecord]:
    """Records of which the first ones have these texts and no ids."""
    rows = records(engine, FOUR)
    return [replace(row, output_text=text) for row, text in zip(rows, texts, strict=False)] + rows[len(texts) :]


def test_each_answer_is_there_once_with_where_it_parts_from_the_first_that_was_asked_alike(run: Run) -> None:
    texts = {ALPHA: "The capital is Paris.", BETA: "The capital is Parma, I think.", GAMMA: "Hello! Paris."}
    chat = {"probe__prompt_as": "chat"}
    runs = [
        run(engine, load=FOUR, rows=saying(engine, text), **PROMPTS, **(chat if engine is GAMMA else {}))
        for engine, text in texts.items()
    ]
    (found,) = compare(runs, campaign(("alpha", "beta", "gamma"))).texts
    assert (found.load, found.round, found.index, found.prompt) == (FOUR.name, 1, 0, "Question 0?")
    assert found.said == (
        SaidBy(("alpha",), texts[ALPHA]),
        SaidBy(("beta",), texts[BETA], same=len("The capital is "), against="alpha"),
        SaidBy(("gamma",), texts[GAMMA]),
    )
    runs[1] = run(BETA, load=FOUR, rows=saying(BETA, texts[ALPHA]), **PROMPTS)
    (found,) = compare(runs, campaign(("alpha", "beta", "gamma"))).texts
    assert found.said[0] == SaidBy(("alpha", "beta"), texts[ALPHA])


def test_random_prompts_have_no_texts_to_read(run: Run) -> None:
    comparison = compare([run(load=FOUR), run(BETA, load=FOUR)], campaign())
    assert comparison.texts == () and "Answers beside each other" not in markdown(comparison)


@pytest.mark.parametrize(
    ("theirs", "verdict", "said"),
    [
        (
            ("a b", "c d", "e f", "g h"),
            "ok",
            "4 of 4 answers begin with the same word as those of Alpha, and 4 are",
        ),
        (
            ("a x", "c x", "y f", "g h"),
            "ok",
            "3 of 4 answers begin with the same word as those of Alpha, and 1 are",
        ),
        (("x b", "x d", "x f", "g h"), "doubt", "Under load, as text, 1 of 4 answers begin with the same word"),
    ],
)
def test_without_ids_the_texts_are_compared(run: Run, theirs: tuple[str, ...], verdict: str, said: str) -> None:
    told: dict[str, Any] = {"probe__answer_ids": (), "probe__answer_text": "Yes."}
    runs = [
        run(load=FOUR, rows=saying(ALPHA, "a b", "c d", "e f", "g h"), **told),
        run(BETA, load=FOUR, rows=saying(BETA, *theirs), **told),
    ]
    found = check(runs, "ANSWERS", "beta")
    assert found.verdict == verdict and said in found.message


def test_answers_by_chat_are_not_held_against_those_to_the_prompt_alone(run: Run) -> None:
    runs = [run(load=FOUR), run(BETA, load=FOUR, probe__answer_ids=(9, 9, 9, 9), probe__prompt_as="chat")]
    assert check(runs, "ANSWERS", "beta").verdict == "ok"
    summary = compare(runs, campaign()).candidate("beta")
    assert summary.answers is None


def test_the_page_and_the_table_show_them_and_nothing_in_them_is_markup(run: Run, tmp_path: Any) -> None:
    bad = "<script>alert(1)</script> **bold** | [a](http://b) " + "word " * 300
    runs = [
        run(load=FOUR, rows=saying(ALPHA, "The same and then this"), **PROMPTS),
        run(BETA, load=FOUR, rows=saying(BETA, f"The same and {bad}"), **PROMPTS),
    ]
    comparison = compare(runs, campaign())
    page = html(comparison, tmp_path, dict.fromkeys(_charts(comparison), "not drawn here"))
    assert "<script>" not in page and "&lt;script&gt;alert(1)" in page
    assert '<span class="soft">The same and </span><mark title="differs here from Alpha">&lt;script' in page
    assert "word ...</p>" in page and "Question 0?" in page
    table = markdown(comparison)
    assert (
        "- Beta: The same and ‖ \\<script\\>" in table
        and "\\*\\*bold\\*\\* \\| " in table
        and "**Question 0?**" in table
    )


def _charts(comparison: Any) -> list[str]:
    from harness.report.charts.charts import chart_names

    return chart_names(comparison)
