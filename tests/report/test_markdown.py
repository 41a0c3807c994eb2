"""What a server says stays plain text in Markdown files."""

from __future__ import annotations

import mistune
import pytest

from harness.report.markdown import bullets, escaped, table

HOSTILE = (
    "[click](http://evil.example)", "![x](https://evil.example/x.png)", "http://evil.example/a?b=c", "www.evil.example",
    "<a href=x>y</a>", "<http://evil.example>", "mail me@evil.example", "[a]: http://evil.example", "[a][b]", "# head",
    "1. one", "12) two", "- item", "+ item", "* item", "--- ", "===", "> quote", "**bold** __b__ ~~gone~~", "`code`",
    "a | b", "&lt;b&gt;", "$x_{y$", "a\\|b", "[ ] box", "[x] box", "```\ncode", "HTTPS://evil.example", "\\[x](http://y)",
    "[[x](http://a)](http://b)", "ftp://evil.example", "http 500: no", "c@d", "#5 failed", "5.5 s", "-5 %", "[1, 2]",
)  # fmt: skip
GITHUB = mistune.create_markdown(escape=False, plugins=["table", "url", "strikethrough", "task_lists", "math"])
SHOWN = ("<p>", "</p>", "<ul>", "</ul>", "<li>", "</li>", "<h1>", "</h1>", "\n")


def text_of(page: str, tags: tuple[str, ...] = SHOWN) -> str:
    for tag in tags:
        page = page.replace(tag, "")
    for entity, mark in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&"), ("\u2060", "")):
        page = page.replace(entity, mark)
    return page


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_shown_as_it_is(text: str) -> None:
    flat = " ".join(text.split())
    assert text_of(str(GITHUB(escaped(text)))) == flat
    assert text_of(str(GITHUB(bullets([text])))) == flat
    assert text_of(str(GITHUB(f"# {escaped(text)}"))) == flat
    page = str(GITHUB(table(["a", "b"], [[text, "end"]], "lr")))
    body = page[page.index("<tbody>") :]
    assert body.count("<td") == 2 and "<a" not in body and "<img" not in body and "<em" not in body, body
    assert flat in text_of(body)
