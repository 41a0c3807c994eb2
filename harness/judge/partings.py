"""Where two greedy answers to one prompt part, and how surely one of them is wrong.

Two right engines do not give the same answer for ever: rounding flips a near-tie, and after one flip all later tokens
are another text. So only the first difference counts. There both have seen the same tokens, and each engine can say
how much likelier it finds its own token than the other's. The sum of the two is how far the engines differ in their log
odds of the two tokens. Rounding explains some tenths of a nat: bfloat16 has 8 bits, so that logits between 16 and 32
come in steps of 0.125, in both engines and for both tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Steps = Sequence[Sequence[tuple[int, float]]]
NEAR_TIE = 0.5  # nats between the engines' log odds that rounding explains: four steps of a bfloat16 logit
CLEAR = 4.0  # nats that nothing explains but another computation: odds of 55 to 1
EARLY = 4  # tokens: right engines rarely part so soon
CONSTANT_TOKENS, CONSTANT_IDS = 16, 2  # an answer of as many tokens or more, with no more than so many different ones

Kind = Literal["near tie", "clear", "wrong", "unknown"]


@dataclass(frozen=True, slots=True)
class Said:
    """An answer: its ids, and for its first steps the most likely tokens with their log probabilities (nats)."""

    ids: Sequence[int]
    likely: Steps = ()


@dataclass(frozen=True, slots=True)
class Parting:
    """The first difference of two answers, at token `at` (from 0). `nats`: how far the engines' log odds of the two
    tokens differ, at least; None if neither says. `strange`: neither names the other's token among its likely ones."""

    at: int
    nats: float | None
    strange: bool

    @property
    def kind(self) -> Kind:
        """What it means: rounding; a difference that rounding does not explain; an answer that is wrong; or, if no
        engine names probabilities, not known."""
        if self.nats is None:
            return "unknown"
        if self.nats < NEAR_TIE and not self.strange:
            return "near tie"
        return "wrong" if self.at < EARLY and (self.strange or self.nats >= CLEAR) else "clear"

    @property
    def early(self) -> bool:
        return self.at < EARLY


def parting(mine: Said, theirs: Said) -> Parting | None:
    """Where two answers part; None if they are the same. Where one ends before the other, nobody says why."""
    pairs = zip(mine.ids, theirs.ids, strict=False)
    at = next((i for i, (one, other) in enumerate(pairs) if one != other), min(len(mine.ids), len(theirs.ids)))
    if at == len(mine.ids) == len(theirs.ids):
        return None
    if at in (len(mine.ids), len(theirs.ids)):
        return Parting(at, None, False)
    views = (_preference(mine, theirs, at), _preference(theirs, mine, at))
    known = [view for view in views if view is not None]
    if not known:
        return Parting(at, None, False)
    return Parting(at, sum(nats for nats, _ in known), all(strange for _, strange in known))


def _preference(one: Said, other: Said, at: int) -> tuple[float, bool] | None:
    """How much likelier (nats, at least) the one finds its own token than the other's, and whether it does not name the
    other's; None if it does not say."""
    step = dict(one.likely[at]) if at < len(one.likely) else {}
    own = step.get(one.ids[at])
    if own is None:
        return None
    return own - step.get(other.ids[at], min(step.values())), other.ids[at] not in step


def constant(ids: Sequence[int]) -> bool:
    """Whether an answer is one token, or two, again and again."""
    return len(ids) >= CONSTANT_TOKENS and len(set(ids)) <= CONSTANT_IDS
