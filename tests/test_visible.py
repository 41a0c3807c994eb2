import pytest

from harness.visible import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("out of memory", "out of memory"),
        ("", ""),
        ("  two \r\n lines\t", "two lines"),
        ("\x1b]0;title\x07\x1b[2J", "\\x1b]0;title\\x07\\x1b[2J"),
        ("\x9b2J", "\\x9b2J"),  # the same escape sequence in one byte
        ("a\u202eb", "a\\u202eb"),  # turns the rest of a line round
        ("\ud800", "\\ud800"),  # half a character: cannot be written to a file
        ("\U000e0041", "\\U000e0041"),
        ("Größe 中文 ✓", "Größe 中文 ✓"),
        ("null\0byte", "null\\x00byte"),
    ],
)
def test_control_characters_are_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_long_text_is_cut_once_and_says_how_long_it_was() -> None:
    assert visible("x" * 300) == "x" * 200 + "... (300 characters)"
    assert visible("x" * 10_000_000, 10) == "x" * 10 + "... (10000000 characters)"
    assert visible("x" * 300, None) == "x" * 300
    assert visible("x" * 200) == "x" * 200


def test_blanks_beyond_the_limit_are_not_counted_as_text() -> None:
    assert visible("a" + " " * 300 + "b") == "a b"
