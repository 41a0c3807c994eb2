"""Answers as text, for page and table."""

from __future__ import annotations

from harness.judge.comparison import Comparison
from harness.judge.texts import SaidBy
from harness.report.markdown import escaped

MOST = 600  # characters of a prompt or of an answer that are shown
MOST_COMMON = 240  # of what an answer has in common with another


def cut(text: str) -> str:
    """The beginning of a text."""
    return text if len(text) <= MOST else f"{text[:MOST].rstrip()} ..."


def parted(said: SaidBy) -> tuple[str, str, str]:
    """What an answer has in common with the other, the word where it first differs, and the rest."""
    begins = len(said.text) - len(said.text[said.same :].lstrip())  # a blank before the word is no difference
    common, apart = said.text[:begins], cut(said.text[begins:])
    word, blank, rest = apart.partition(" ")
    return common if len(common) <= MOST_COMMON else f"... {common[-MOST_COMMON:].lstrip()}", word, blank + rest


def texts_intro(comparison: Comparison) -> str:
    """Where the answers come from, and how to read them; empty without any."""
    if not comparison.texts:
        return ""
    first = comparison.texts[0]
    return (
        f"What the candidates answered to the same prompts at {first.load}, in round {first.round}; requests "
        f"{', '.join(str(one.index) for one in comparison.texts)} of its schedule. Each answer is shown once, with all "
        "who gave it. Underlined: where it first differs from the first candidate that was asked in the same way (by "
        "text or by chat)."
    )


def texts_parts(comparison: Comparison) -> list[str]:
    """The same as Markdown; a bar stands where an answer first differs."""
    if not comparison.texts:
        return []
    titles = {one.name: one.title for one in comparison.candidates}
    parts = ["## Answers beside each other", escaped(texts_intro(comparison).replace("Underlined:", "After the bar:"))]
    for one in comparison.texts:
        lines = [f"**{escaped(cut(one.prompt))}**", ""]
        for said in one.said:
            who = escaped(", ".join(titles[name] for name in said.candidates))
            text = escaped(cut(said.text) or "(nothing)")
            if said.against:
                common, word, rest = map(escaped, parted(said))
                text = f"{common} ‖ {word} {rest}".strip()
            lines.append(f"- {who}: {text}")
        parts.append("\n".join(lines))
    return parts
