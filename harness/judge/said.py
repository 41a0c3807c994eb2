"""The type of an answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer. `text` is whole sentences with the numbers and their intervals; `candidates`: whom it names, the
    best first; `loads`: what it rests on; `weakened_by`: codes of the checks that raise a doubt about these cells."""

    key: str  # of its topic: one-user, batch, slo, lead, unknown, distrust, aa, differs, machine
    title: str
    text: str
    candidates: tuple[str, ...] = ()
    loads: tuple[str, ...] = ()
    weakened_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """The text of an answer, and what it rests on. `measured`: the candidates whose cells it used, if they are others
    than those it names."""

    text: str
    candidates: tuple[str, ...] = ()
    loads: tuple[str, ...] = ()
    measured: tuple[str, ...] = ()

    @property
    def rests_on(self) -> tuple[str, ...]:
        """The candidates whose cells it used."""
        return self.measured or self.candidates
