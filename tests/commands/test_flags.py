"""Values of flags: what is read, and the one line that each mistake gets."""

from argparse import ArgumentTypeError

import pytest

from harness.commands import flags
from harness.errors import HarnessError


@pytest.mark.parametrize(("text", "value"), [("12", 12), ("-5", -5), ("1_000", 1000), ("+7", 7)])
def test_whole_numbers(text: str, value: int) -> None:
    assert flags.whole(text) == value and flags.decimal(text) == value


@pytest.mark.parametrize("text", ["", "1e3", "1.0", "\u0661\u0662", " 12", "1__0", "_1", "0x10", "true", "9" * 5000])
def test_what_is_no_whole_number(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is no whole number"):
        flags.whole(text)


@pytest.mark.parametrize(("text", "value"), [("0.5", 0.5), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("-2", -2.0)])
def test_decimals(text: str, value: float) -> None:
    assert flags.decimal(text) == value


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "\u0661.5", "1,5", "1e", "", "infinity"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is no number"):
        flags.decimal(text)


def test_names_are_separated_by_commas_and_none_is_empty() -> None:
    assert flags.names("a, b,a") == ["a", "b", "a"]
    assert flags.names(None) == flags.names("") == flags.names(" ") == []
    for text in ("a,,b", ",", "a,"):
        with pytest.raises(HarnessError, match=f"--engines '{text}': a name is empty"):
            flags.names(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("a=1", 1), ("a=true", True), ('a={"b": [1]}', {"b": [1]}), ("a=word", "word"), ("a=2024-01-01", "2024-01-01")],
)
def test_fields(text: str, value: object) -> None:
    assert flags.field(text) == ("a", value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a", "--field a: write NAME=JSON"),
        ("=1", "--field =1: write NAME=JSON"),
        ("a=", "--field a=: a value is missing"),
        ('a=["b"', "--field a: not JSON"),
        ("a=NaN", "--field a: a number that JSON cannot hold"),
        ("a=" + "9" * 5000, "--field a: a number that JSON cannot hold, or of more than 4,300 digits"),
        ("a=" + "[" * 100_000, "--field a: its JSON is too deep"),
    ],
)
def test_what_is_no_field(text: str, said: str) -> None:
    with pytest.raises(HarnessError) as caught:
        flags.field(text)
    assert str(caught.value).startswith(said) and len(str(caught.value)) < 300
