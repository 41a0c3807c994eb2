"""How the candidates of one engine differ."""

from __future__ import annotations

from dataclasses import replace

from harness.judge.comparison import compare
from harness.report.table import markdown
from harness.report.variants import variants
from tests.invented import ALPHA, BETA, campaign
from tests.invented_runs import Run

FAST = replace(ALPHA, name="alpha-fast", title="Alpha fast", engine="alpha")
LINE = ("alpha", "serve", "{model}", "--slots", "16", "--gain=-1", "--lora", "a", "b", "--port", "{port}")


def test_only_what_differs_is_shown_side_by_side(run: Run) -> None:
    settings = {"prefix_cache": True, "context_tokens": 1024, "threads": 8}
    runs = [
        run(endpoint__launch_line=LINE),
        run(
            FAST,
            endpoint__launch_line=("alpha", "serve", "{model}", "--slots", "32", "--gain", "-1", "--lora", "a", "b",
                                   "--port", "{port}", "--eager"),
            endpoint__env={"A": "1"},
            endpoint__settings=settings,
            endpoint__version="2.0",
        ),
        run(BETA),
    ]  # fmt: skip
    comparison = compare(runs, campaign(["alpha", "alpha-fast", "beta"]))
    (found,) = variants(comparison)
    assert (found.title, found.header) == ("How the candidates of Alpha differ", ("", "Alpha", "Alpha fast"))
    assert found.rows == (
        ("version", "1.2.3", "2.0"),
        ("--slots", "16", "32"),
        ("--eager", "–", "given"),
        ("env A", "–", "1"),
        ("prefix_cache", "false", "true"),
    )
    assert "| --slots | 16 | 32 |" in markdown(comparison)


def test_one_candidate_of_each_engine_has_no_such_table(run: Run) -> None:
    comparison = compare([run(), run(BETA)], campaign())
    assert variants(comparison) == [] and "How the candidates" not in markdown(comparison)


def test_candidates_that_differ_in_nothing_say_so(run: Run) -> None:
    (found,) = variants(compare([run(), run(FAST)], campaign(["alpha", "alpha-fast"])))
    assert found.rows == (("launch line, environment, settings", "the same", "the same"),)
