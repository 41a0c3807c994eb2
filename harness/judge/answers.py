"""The answers in words that stand at the top of everything, made from the numbers of a comparison."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer. `text` is a whole sentence with the numbers and their intervals; `candidates`: whom it names, the
    best first; `loads`: what it rests on; `weakened_by`: codes of the checks that raise a doubt about these cells."""

    key: str  # one-user, batch, slo, lead, unknown, differs, machine
    title: str
    text: str
    candidates: tuple[str, ...] = ()
    loads: tuple[str, ...] = ()
    weakened_by: tuple[str, ...] = ()
