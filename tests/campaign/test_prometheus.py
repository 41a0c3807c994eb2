"""Series of a metrics page, whatever else is on it."""

from __future__ import annotations

import random

import pytest

from harness.campaign.prometheus import has_series, series_in


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('a{engine="0"} 1\na{engine="1"} 2.5\nb 7\n', [1.0, 2.5]),
        ('a{x="}\\"{ #"} 3 1700000000000\n', [3.0]),
        ("a_total 1\nab 2\n# a 3\n a 4\n", "none"),
        ("a 1\na one\n", None),
        ("a NaN\n", None),
        ("a +Inf\na 1\n", None),
        ('a{x="1} 2\n', None),
        ("a\n", None),
        ("a 1\n" * 30_000, None),
    ],
)
def test_values_of_one_series(text: str, found: object) -> None:
    assert series_in(text, {"a"}).get("a", "none") == found


def test_a_line_that_cannot_be_read_spoils_its_own_series_only() -> None:
    assert series_in("a ?\nb 1\na 2\n", {"a", "b"}) == {"a": None, "b": [1.0]}


def test_a_page_without_series() -> None:
    assert not has_series("# HELP x\n\n  \n") and has_series("<html>")


def test_changed_pages_never_raise() -> None:
    rng = random.Random(7)
    page = 'vllm:x{engine="0",a="b\\"}"} 3.0 123 # {x="y"} 1\nvllm:x_total 5\n'
    for _ in range(3000):
        text = list(page)
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(text))
            text[at : at + rng.randint(0, 1)] = rng.choice('{}",=\\ #\n\x00a1:é_')
        for values in series_in("".join(text), {"vllm:x", "vllm:x_total"}).values():
            assert values is None or all(isinstance(value, float) for value in values)
