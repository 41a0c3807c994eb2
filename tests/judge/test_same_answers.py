"""ANSWERS: where two answers part, and which of them is wrong; garbage against one late flip."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from harness.judge.checks.evidence import Check
from harness.judge.partings import Parting, Said, constant, parting
from harness.records.manifest import AloneFacts, ProbeFacts
from harness.records.run import RunResult
from tests.invented import ALPHA, BETA, FOUR, Invented, records
from tests.invented_runs import Run
from tests.judge.checking import check

GAMMA = Invented("gamma", "Gamma", "#2d8a4e", 100.0, 20.0)
RIGHT = tuple(random.Random(7).choices(range(1000), k=64))
NEAR, SURE = 0.1, 3.0  # nats between the likeliest token and the next


def steps(ids: Sequence[int], nats: float = SURE, second: int = 5000) -> tuple[tuple[tuple[int, float], ...], ...]:
    """Each token `nats` likelier than `second`, and three others far behind."""
    return tuple(((i, -0.2), (second, -0.2 - nats), (6001, -9.0), (6002, -9.5), (6003, -9.9)) for i in ids)


def flipped(at: int, to: int = 5000, ids: Sequence[int] = RIGHT) -> tuple[int, ...]:
    """Another token at one place, and another text from there on."""
    after = random.Random(at).choices(range(1000, 2000), k=len(ids) - at - 1)
    return (*ids[:at], to, *after)


def other_view(ids: Sequence[int], at: int, nats: float) -> tuple[tuple[tuple[int, float], ...], ...]:
    """The steps of the engine that took the other token there."""
    own = list(steps(ids))
    own[at] = ((ids[at], -0.5), (RIGHT[at], -0.5 - nats))
    return tuple(own)


# -- one parting --------------------------------------------------------------------------------------------------


def test_the_same_answer_does_not_part() -> None:
    assert parting(Said(RIGHT), Said(RIGHT, steps(RIGHT))) is None


@pytest.mark.parametrize(
    ("mine", "theirs", "nats", "kind"),
    [
        (NEAR, NEAR, 0.2, "near tie"),
        (0.3, 0.3, 0.6, "clear"),  # either alone would be a near-tie; together rounding does not explain it
        (SURE, NEAR, 3.1, "clear"),
        (SURE, None, 3.0, "clear"),  # one of them does not say
        (NEAR, None, 0.1, "near tie"),
        (None, None, None, "unknown"),
    ],
)
def test_how_far_two_engines_differ_at_the_first_difference(
    mine: float | None, theirs: float | None, nats: float | None, kind: str
) -> None:
    other = flipped(20)
    apart = parting(
        Said(RIGHT, () if mine is None else steps(RIGHT, mine)),
        Said(other, () if theirs is None else other_view(other, 20, theirs)),
    )
    assert apart is not None and (apart.at, apart.strange, apart.kind) == (20, False, kind)
    assert apart.nats == (None if nats is None else pytest.approx(nats))


@pytest.mark.parametrize(("at", "kind"), [(0, "wrong"), (3, "wrong"), (4, "clear"), (40, "clear")])
def test_a_token_that_neither_would_have_taken(at: int, kind: str) -> None:
    """Where everything is about as likely, a wrong token is not far behind either: but nobody names it."""
    other = flipped(at, to=7777)
    flat = tuple(tuple((token + i, -5.0 - i / 50) for i in range(5)) for token in RIGHT)
    flat_too = tuple(tuple((token + 10 * i, -5.0 - i / 50) for i in range(5)) for token in other)
    apart = parting(Said(RIGHT, flat), Said(other, flat_too))
    assert apart is not None and apart.strange and apart.nats == pytest.approx(0.16)
    assert apart.kind == kind


def test_an_answer_that_ends_sooner_parts_at_its_end() -> None:
    assert parting(Said(RIGHT, steps(RIGHT)), Said(RIGHT[:9])) == Parting(9, None, False)


def test_one_token_again_and_again() -> None:
    assert constant([5] * 16) and constant([5, 6] * 8)
    assert not constant([5] * 15) and not constant([5, 6, 7] * 6)


# -- cells --------------------------------------------------------------------------------------------------------


def probed(ids: Sequence[int], likely: Any = (), alone: AloneFacts | None = None) -> ProbeFacts:
    return ProbeFacts(answer_ids=tuple(ids), answer_likely=likely, alone=alone)


def judged(run: Run, probe: ProbeFacts, **changes: Any) -> Check:
    """BETA with this probe beside ALPHA, whose answer is right."""
    return check([run(probe=probed(RIGHT, steps(RIGHT, NEAR))), run(BETA, probe=probe, **changes)], "ANSWERS", "beta")


def test_two_right_engines_that_part_after_5_tokens_are_noted(run: Run) -> None:
    other = flipped(5)
    found = judged(run, probed(other, other_view(other, 5, NEAR)))
    assert (found.verdict, found.numbers["parted_at"]) == ("note", 5)
    assert "about as likely (0.2 nats apart), which rounding explains" in found.message


def test_a_difference_that_rounding_does_not_explain_is_a_doubt(run: Run) -> None:
    other = flipped(5)
    found = judged(run, probed(other, other_view(other, 5, SURE)))
    assert found.verdict == "doubt" and "differ by 3.1 nats there" in found.message and found.advice


@pytest.mark.parametrize(("at", "verdict"), [(3, "doubt"), (4, "note"), (63, "note")])
def test_without_probabilities_only_an_early_difference_is_a_doubt(run: Run, at: int, verdict: str) -> None:
    runs = [run(probe=probed(RIGHT)), run(BETA, probe=probed(flipped(at)))]
    assert check(runs, "ANSWERS", "beta").verdict == verdict


def test_garbage_is_invalid(run: Run) -> None:
    garbage = tuple(random.Random(1).choices(range(3000, 4000), k=64))
    found = judged(run, probed(garbage, steps(garbage, NEAR)))
    assert found.verdict == "invalid" and "neither engine finds the other's token likely" in found.message


def test_garbage_from_declared_weights_or_behind_an_attached_template(run: Run) -> None:
    garbage = tuple(random.Random(1).choices(range(3000, 4000), k=64))
    assert judged(run, probed(garbage, steps(garbage, NEAR)), model__weights="tiny-q8_0.gguf").verdict == "note"
    assert judged(run, probed(garbage, steps(garbage, NEAR)), endpoint__launch="attach").verdict == "doubt"


def test_the_worst_round_counts(run: Run) -> None:
    runs = [run(round_index=r, probe=probed(RIGHT)) for r in (1, 2)]
    runs += [run(BETA, round_index=r, probe=probed(flipped(at))) for r, at in ((1, 40), (2, 2))]
    found = check(runs, "ANSWERS", "beta")
    assert (found.verdict, found.numbers["parted_at"]) == ("doubt", 2)


def test_of_three_the_odd_one_out_is_wrong_even_if_it_is_the_reference(run: Run) -> None:
    garbage = tuple(random.Random(1).choices(range(3000, 4000), k=64))
    runs = [run(probe=probed(garbage, steps(garbage)))]
    runs += [run(engine, probe=probed(RIGHT, steps(RIGHT))) for engine in (BETA, GAMMA)]
    verdicts = {name: check(runs, "ANSWERS", name).verdict for name in ("alpha", "beta", "gamma")}
    assert verdicts == {"alpha": "invalid", "beta": "ok", "gamma": "ok"}


# -- under load ---------------------------------------------------------------------------------------------------


def loaded(run: Run, engine: Invented, kept: Sequence[Sequence[int]], **changes: Any) -> RunResult:
    """A run at c4 whose first answers had these ids."""
    rows = records(engine, FOUR)
    rows = [replace(row, output_ids=tuple(kept[i])) if i < len(kept) else row for i, row in enumerate(rows)]
    return run(engine, FOUR, rows=rows, **{"probe": probed(RIGHT), **changes})


KEPT = [tuple(random.Random(i).choices(range(1000), k=32)) for i in range(4)]


@pytest.mark.parametrize(("wrong", "verdict"), [(0, "ok"), (2, "ok"), (3, "invalid"), (4, "invalid")])
def test_garbage_under_load_alone(run: Run, wrong: int, verdict: str) -> None:
    """Its answer to the probe is right, and under load most answers differ from the first token on."""
    mine = [(9999, *ids[1:]) if i < wrong else flipped(20, ids=ids) for i, ids in enumerate(KEPT)]
    found = check([loaded(run, ALPHA, KEPT), loaded(run, BETA, mine)], "ANSWERS", "beta")
    assert (found.verdict, found.numbers["first_token_differs"]) == (verdict, wrong)


def test_too_few_answers_under_load_say_nothing(run: Run) -> None:
    found = check([loaded(run, ALPHA, KEPT[:3]), loaded(run, BETA, [(9999,)] * 3)], "ANSWERS", "beta")
    assert found.verdict == "ok" and "kept_answers" not in found.numbers


@pytest.mark.parametrize("stuck", ["alpha", "beta"])
def test_the_same_token_again_and_again_is_wrong_whoever_is_the_reference(run: Run, stuck: str) -> None:
    bad = [(ids[0],) * 32 for ids in KEPT]
    runs = [loaded(run, e, bad if e.name == stuck else KEPT) for e in (ALPHA, BETA)]
    verdicts = {name: check(runs, "ANSWERS", name).verdict for name in ("alpha", "beta")}
    assert verdicts == {name: "invalid" if name == stuck else "ok" for name in ("alpha", "beta")}


def test_a_model_that_repeats_itself_everywhere_is_no_fault(run: Run) -> None:
    bad = [(ids[0],) * 32 for ids in KEPT]
    assert check([loaded(run, ALPHA, bad), loaded(run, BETA, bad)], "ANSWERS", "beta").verdict == "ok"


@pytest.mark.parametrize(
    ("token", "nats", "at", "verdict"),
    [
        (5000, NEAR, 0, "ok"),  # another batch rounds otherwise
        (5000, 2.0, 0, "doubt"),
        (5000, 4.5, 0, "invalid"),
        (7777, NEAR, 9, "invalid"),  # nothing that it would have said alone
    ],
)
def test_an_answer_under_load_against_the_same_request_alone(
    run: Run, token: int, nats: float, at: int, verdict: str
) -> None:
    alone = AloneFacts(load=FOUR.name, index=2, ids=KEPT[2], likely=steps(KEPT[2], nats))
    mine = [*KEPT[:2], flipped(at, token, KEPT[2]), KEPT[3]]
    probe = probed(RIGHT, alone=alone)
    found = check([loaded(run, ALPHA, KEPT), loaded(run, BETA, mine, probe=probe)], "ANSWERS", "beta")
    assert found.verdict == verdict, found.message
    assert ("Under load, its answer to one request" in found.message) == (verdict != "ok")
    elsewhere = probed(RIGHT, alone=replace(alone, load="c99"))
    clean = check([loaded(run, ALPHA, KEPT), loaded(run, BETA, mine, probe=elsewhere)], "ANSWERS", "beta")
    assert clean.verdict == "ok"


# -- as text ------------------------------------------------------------------------------------------------------

TEXT = "The sky is blue because air scatters short waves more than long ones."


@pytest.mark.parametrize(
    ("text", "verdict", "said"),
    [
        (f" {TEXT}\n", "ok", "Same answer as Alpha, compared as text (69 characters)"),
        (TEXT.replace("long ones", "red light"), "note", "the first 59 of 69 characters are equal"),
        ("A sky is blue.", "doubt", "the first 0 of 69 characters"),
        ("", "doubt", "No probe answer to compare with Alpha"),
    ],
)
def test_without_ids_the_texts_are_compared(run: Run, text: str, verdict: str, said: str) -> None:
    runs = [
        run(probe=ProbeFacts(answer_ids=RIGHT, answer_text=TEXT)),
        run(BETA, probe=ProbeFacts(answer_text=text, prompt_as="text")),
    ]
    found = check(runs, "ANSWERS", "beta")
    assert found.verdict == verdict and said in found.message
