"""A server that already runs, as a candidate: its key, and what passes through while it is measured."""

from __future__ import annotations

import pytest

import engines
from harness.campaign.contender import Contender
from harness.commands.serving import attached
from harness.errors import CannotStart, Stopped
from harness.records.manifest import ModelFacts
from harness.workload.candidate import Candidate

OPENAI = engines.load()["openai"]


def contender(key_env: str = "") -> Contender:
    candidate = Candidate(engine="openai", url="http://127.0.0.1:9/v1", key_env=key_env)
    return Contender(candidate, OPENAI, {}, ModelFacts(name="m", shown=False))


@pytest.mark.parametrize("kind", [Stopped, KeyboardInterrupt, CannotStart])
def test_what_ends_a_measurement_passes_through(kind: type[BaseException]) -> None:
    with pytest.raises(kind, match="in the middle"), attached(contender()):
        raise kind("in the middle")


def test_the_key_is_read_from_its_variable() -> None:
    with attached(contender(key_env="MINE"), {"MINE": "sk-1\n"}) as endpoint:
        assert endpoint.key == "sk-1"


@pytest.mark.parametrize(
    ("value", "said"),
    [("", "key_env: MINE is not set"), ("sk-a\nsk-b", "the API key in MINE"), ("sk-ä", "the API key in MINE")],
)
def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(value: str, said: str) -> None:
    with pytest.raises(CannotStart) as refused, attached(contender(key_env="MINE"), {"MINE": value}):
        pass
    assert str(refused.value).startswith(said) and "sk-" not in str(refused.value)
