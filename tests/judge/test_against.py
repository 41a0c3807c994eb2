"""A comparison held against an earlier one: verdicts, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import NotComparable
from harness.judge.against import Against, Change, Held, against
from harness.judge.comparison import Comparison, compare
from harness.judge.stats import Estimate
from harness.records.campaign import run_folder
from harness.records.run import read_run
from harness.workload.slo import Slo
from tests import loads
from tests.invented import ALPHA, BETA, FACTORS, FOUR, ONE, Invented, campaign, manifest, records, write_run

Make = Callable[..., Comparison]
SLOWER = replace(ALPHA, tpot_ms=26.0)


@pytest.fixture
def made(tmp_path: Path) -> Make:
    """A comparison of these engines: (engines, rounds' factors, **changes of every manifest)."""
    count = 0

    def make(
        engines: Sequence[Invented] = (ALPHA, BETA),
        factors: Sequence[float] = FACTORS,
        at: Sequence[Any] = (ONE, FOUR),
        **changes: Any,
    ) -> Comparison:
        nonlocal count
        count += 1
        runs = []
        for engine in engines:
            for load in at:
                for i, factor in enumerate(factors, 1):
                    folder = run_folder(tmp_path / str(count), engine.name, load.name, i)
                    write_run(folder, manifest(engine, load, i, **changes), records(engine, load, factor))
                    runs.append(read_run(folder))
        return compare(runs, campaign([engine.name for engine in engines], rounds=len(factors)))

    return make


def held(now: Comparison, then: Comparison, allow_machine: bool = False) -> Against:
    return against(Held(now, "now"), Held(then, "then"), allow_machine)


def of(found: Against, question: str, load: str = "c1", candidate: str = "alpha") -> Change:
    return next(c for c in found.changes if (c.candidate, c.load, c.question) == (candidate, load, question))


def test_nothing_changed(made: Make) -> None:
    found = held(made(), made(factors=(1.005, 0.995, 1.0)))
    assert of(found, "ttft_p50").verdict == of(found, "tpot_p50").verdict == "pass"
    assert "regression" not in {change.verdict for change in found.changes}
    assert found.verdict in ("pass", "not known")


def test_a_slower_candidate_is_a_regression_in_what_became_slower(made: Make) -> None:
    found = held(made((SLOWER, BETA)), made())
    assert found.verdict == "regression"
    change = of(found, "tpot_p50")
    assert change.verdict == "regression" and change.ratio == pytest.approx(1.3)
    assert [change.now, change.then] == pytest.approx([0.026, 0.020], rel=1e-3)
    assert of(found, "ttft_p50").verdict == "pass"
    assert of(found, "tpot_p50", candidate="beta").verdict == "pass"
    assert change.p is not None and change.p < 0.05 and change.rounds_needed is None


def test_a_faster_candidate_passes(made: Make) -> None:
    found = held(made(), made((SLOWER, BETA)))
    assert of(found, "tpot_p50").verdict == of(found, "e2e_p50").verdict == "pass"
    assert "regression" not in {change.verdict for change in found.changes}


def test_a_throughput_that_fell_is_worse_and_one_that_rose_is_not(made: Make) -> None:
    quick = {"factors": (1.0, 1.0, 1.0)}
    fell, rose = held(made((SLOWER,), **quick), made((ALPHA,), **quick)), held(made(**quick), made((SLOWER,), **quick))
    assert of(fell, "output_throughput").verdict == "regression"
    assert of(rose, "output_throughput").verdict == "pass"


def test_a_change_within_the_margin_is_never_a_regression(made: Make) -> None:
    """2 % slower in rounds that are otherwise the same to a tenth of a per cent: significant, and within 3 %."""
    then, now = (1.0, 1.001, 0.999), (1.02, 1.021, 1.019)
    found = held(made(factors=now), made(factors=then))
    assert of(found, "ttft_p50").verdict == "pass"
    assert of(held(made(factors=(1.05, 1.051, 1.049)), made(factors=then)), "ttft_p50").verdict == "regression"


def test_what_scatter_hides_is_not_known_and_says_how_many_rounds_would_tell(made: Make) -> None:
    noisy = (0.8, 1.0, 1.2)
    change = of(held(made((SLOWER, BETA), factors=noisy), made(factors=noisy)), "tpot_p50")
    assert change.verdict == "not known" and change.rounds_needed is not None and change.rounds_needed > 3
    near = of(held(made(factors=noisy), made(factors=[f / 1.03 for f in noisy])), "ttft_p50")
    assert (near.verdict, near.rounds_needed) == ("not known", None)
    assert near.reason == "at the spread seen, more than 200 rounds would be needed"


def test_one_round_tells_nothing(made: Make) -> None:
    found = held(made((SLOWER,), factors=(1.0,)), made())
    assert found.verdict == "not known"
    assert of(found, "tpot_p50").reason == "1 round now with a value; 2 are needed"


def test_an_invalid_cell_is_not_judged(made: Make) -> None:
    """Throughput of half the tokens that were asked for is not a regression but another load."""
    now = made((SLOWER, BETA))
    cells = [replace(c, checks=(replace(c.checks[0], code="ERROR_RATE", verdict="invalid"),)) for c in now.cells]
    found = held(replace(now, cells=tuple(cells)), made())
    assert {change.reason for change in found.changes} == {"invalid now: ERROR_RATE"}
    assert found.verdict == "not known"


def test_goodput_by_other_objectives_is_not_the_same_question(made: Make) -> None:
    one, other = (made(slo=Slo(ttft_s=limit)) for limit in (1.0, 2.0))
    found = held(one, other)
    assert of(found, "goodput").reason == "the objectives (slo) are not the same"
    assert of(held(one, one), "goodput").ratio == 1.0


def test_what_differs_is_told(made: Make) -> None:
    now = made(endpoint__version="1.3.0", endpoint__settings={"context_tokens": 2048}, endpoint__gpus=2)
    version = held(now, made()).versions[0]
    assert (version.then, version.now) == ("1.2.3", "1.3.0")
    text = "\n".join(version.differences)
    assert "gpus: 0 then, 2 now" in text and "setting context_tokens: 1024 then, 2048 now" in text


def test_what_only_one_has_is_told_and_the_rest_is_judged(made: Make) -> None:
    found = held(made((ALPHA,), at=(ONE,)), made())
    assert set(found.left_out) == {"Beta: measured only then", "load c4: measured only then"}
    assert {(c.candidate, c.load) for c in found.changes} == {("alpha", "c1")}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"model__digest": "n" * 64}, "served different models: nnnnnnnnnnnn and mmmmmmmmmmmm"),
        ({"model__digest": None}, "the digest of its model is not known"),
        ({"schedule__digest": "other"}, "sent different requests at c1 in round 1"),
        ({"machine__id": "box-2"}, "different machines: the same kind, but two machines"),
        ({"machine__cores": 4}, "different machines: cores 4 against 8"),
    ],
)
def test_another_question_is_refused_in_one_line(made: Make, changes: dict[str, Any], complaint: str) -> None:
    now = made((ALPHA,), factors=(1.0,), at=(ONE,), **changes)
    with pytest.raises(NotComparable, match=complaint) as refused:
        held(now, made())
    assert "\n" not in str(refused.value)


def test_other_candidates_and_other_loads_are_refused(made: Make) -> None:
    with pytest.raises(NotComparable, match="have no candidate in common: beta and alpha"):
        held(made((BETA,)), made((ALPHA,)))
    with pytest.raises(NotComparable, match="have no load in common: c4 and c1"):
        held(made(at=(FOUR,)), made(at=(ONE,)))
    longer = loads.load(8, 1)  # c1 too
    with pytest.raises(NotComparable, match="mean different loads by c1: requests 8 and requests 4"):
        held(made(at=(longer,)), made(at=(ONE,)))


def test_another_machine_is_shown_when_allowed_but_never_judged(made: Make) -> None:
    found = held(made((SLOWER, BETA), machine__id="box-2"), made(), allow_machine=True)
    assert not found.judged and found.verdict == "not known"
    assert {change.verdict for change in found.changes} == {"not known"}
    assert of(found, "tpot_p50").ratio == pytest.approx(1.3)


def drawn(like: Comparison, rng: np.random.Generator, slower: float = 1.0) -> Comparison:
    """The comparison with random rounds: SD 8 % in every question, everything as fast as in the other or slower."""

    def estimate(key: str) -> Estimate:
        values = np.exp(rng.normal(0, 0.08, 5)) * (1 / slower if key == "output_throughput" else slower)
        return Estimate(float(np.exp(np.log(values).mean())), None, None, tuple(values.tolist()))

    asked = ("output_throughput", "ttft_p50", "tpot_p50", "e2e_p50")
    cells = [replace(cell, metrics={**cell.metrics, **{key: estimate(key) for key in asked}}) for cell in like.cells]
    return replace(like, cells=tuple(cells))


def test_false_alarms_and_missed_regressions_over_many_comparisons(made: Make) -> None:
    """16 questions, 5 rounds each, SD 8 %. Found: a false regression in 0.5 % of comparisons; a false pass, of what is
    8 % slower, in 0.3 % of questions; what is 20 % slower is a regression in 89 % of them."""
    rng, like = np.random.default_rng(5), made(factors=(1.0,) * 5)
    same = [held(drawn(like, rng), drawn(like, rng)) for _ in range(400)]
    alarms = np.mean([found.verdict == "regression" for found in same])
    slower, slow = ([held(drawn(like, rng, by), drawn(like, rng)) for _ in range(100)] for by in (1.08, 1.2))
    passed = np.mean([c.verdict == "pass" for found in slower for c in found.changes])
    caught = np.mean([c.verdict == "regression" for found in slow for c in found.changes])
    assert alarms <= 0.05 and passed <= 0.025 and caught > 0.8
