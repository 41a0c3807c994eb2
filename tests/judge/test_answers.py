"""Every answer in words, in both directions: no sentence says more than the verdicts of the pairs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.judge.aa import AATest, NoiseFloor
from harness.judge.answers import TOPICS, Answer, answers
from harness.judge.checks.evidence import Verdict
from harness.judge.comparison import Comparison
from harness.judge.pairs import Pair, PairVerdict
from harness.judge.ranking import group_words
from harness.records.manifest import MachineFacts
from harness.workload.slo import Slo
from tests.loads import load
from tests.told import C1, C4, C16, OFFLINE, estimate_of, told, values

TPOT, E2E, TTFT, RATE = "tpot_p50", "e2e_p50", "ttft_p50", "output_throughput"


def answer(key: str, comparison: Comparison) -> Answer:
    return next(one for one in answers(comparison) if one.key == key)


def text(key: str, comparison: Comparison) -> str:
    return answer(key, comparison).text


def test_the_fastest_for_one_user_with_its_ratios() -> None:
    found = answer("one-user", told({"alpha": {C1: values()}, "beta": {C1: values(2.0)}}))
    assert found.text == (
        "For one user (c1) Beta is the fastest: TPOT 5.00 ms, 0.50 [0.45, 0.55] of Alpha's; E2E latency 250 ms, "
        "0.50 [0.45, 0.55] of Alpha's; TTFT 50.0 ms, 0.50 [0.45, 0.55] of Alpha's."
    )
    assert (found.candidates, found.loads, found.weakened_by) == (("beta", "alpha"), ("c1",), ())


def test_the_other_direction() -> None:
    assert text("one-user", told({"alpha": {C1: values(2.0)}, "beta": {C1: values()}})).startswith(
        "For one user (c1) Alpha is the fastest: TPOT 5.00 ms, 0.50 [0.45, 0.55] of Beta's"
    )


def test_who_sends_the_first_token_sooner_is_named_apart() -> None:
    found = text("one-user", told({"alpha": {C1: values()}, "beta": {C1: values(2.0, ttft_p50=0.2)}}))
    assert found.startswith("For one user (c1) Beta is the fastest: TPOT 5.00 ms, ")
    assert found.endswith(". But Alpha leads in TTFT 100 ms, 0.50 [0.45, 0.55] of Beta's.")


def test_equal_within_the_margin_is_no_lead() -> None:
    found = text("one-user", told({"alpha": {C1: values()}, "beta": {C1: values()}}))
    assert "Alpha and Beta are equal within 3 %" in found and "fastest" not in found


def open_at(where: str, *questions: str) -> dict[tuple[str, str, str, str], PairVerdict]:
    return {("beta", "alpha", where, question): "not known" for question in questions}


def test_what_the_rounds_do_not_tell_names_no_winner() -> None:
    verdicts = open_at("c1", TPOT, E2E, TTFT)
    found = text("one-user", told({"alpha": {C1: values()}, "beta": {C1: values(1.2)}}, verdicts))
    assert found.startswith("For one user (c1) it is not known who is fastest: Beta and Alpha are not known apart (")
    assert "TPOT 8.33 ms (Beta), 0.83 [0.76, 0.92] of Alpha's" in found and "is the fastest" not in found


def test_a_first_token_that_is_not_told_apart_is_said_beside_the_winner() -> None:
    measured = {"alpha": {C1: values()}, "beta": {C1: values(1.2)}}
    found = text("one-user", told(measured, open_at("c1", TTFT)))
    assert "Beta is the fastest: TPOT 8.33 ms" in found
    assert "Beta and Alpha are not known apart in TTFT 83.3 ms (Beta)" in found


def test_three_candidates_with_a_tie_behind_the_winner() -> None:
    three = {"alpha": {C1: values()}, "beta": {C1: values(2.0)}, "gamma": {C1: values(2.0)}}
    assert text("one-user", told(three)).startswith(
        "For one user (c1) Beta and Gamma are equal within 3 %, ahead of the others: TPOT 5.00 ms (Beta), "
        "1.00 [0.91, 1.10] of Gamma's (equal within 3 %) and 0.50 [0.45, 0.55] of Alpha's"
    )


def test_a_chain_of_which_only_the_ends_are_told_apart() -> None:
    three = {"alpha": {C1: values()}, "beta": {C1: values(1.05)}, "gamma": {C1: values(1.1)}}
    close: dict[tuple[str, str, str, str], PairVerdict] = {
        (one, other, "c1", question): "not known"
        for one, other in (("beta", "alpha"), ("gamma", "beta"))
        for question in (TPOT, E2E, TTFT)
    }
    found = text("one-user", told(three, close))
    assert "it is not known who is fastest" in found
    assert "Gamma is ahead of Alpha" in found and "Gamma and Beta, Beta and Alpha are not known apart" in found


def test_the_checks_that_weaken_an_answer_are_those_of_its_cells() -> None:
    measured = {"alpha": {C1: values(), C4: values()}, "beta": {C1: values(2.0), C4: values(2.0)}}
    made = told(measured, against={("alpha", "c1"): [("DRIFT", "doubt")], ("beta", "c4"): [("RATE", "doubt")]})
    assert answer("one-user", made).weakened_by == ("DRIFT",)
    assert answer("batch", made).weakened_by == ("RATE",)
    assert answer("lead", made).weakened_by == ("DRIFT", "RATE")


def test_invalid_numbers_are_not_ranked() -> None:
    three = {"alpha": {C1: values()}, "beta": {C1: values(2.0)}, "gamma": {C1: values(9.0)}}
    made = told(three, against={("gamma", "c1"): [("PLAUSIBLE", "invalid")]})
    assert "Beta is the fastest" in text("one-user", made)
    assert text("one-user", made).endswith("Gamma is not ranked: a check found these numbers invalid.")
    assert text("distrust", made) == "Invalid, and not ranked: PLAUSIBLE: Gamma (c1)."


def test_the_lowest_load_stands_for_one_user_and_says_so() -> None:
    found = answer("one-user", told({"alpha": {C4: values(), C16: values()}, "beta": {C4: values(2.0), C16: values()}}))
    assert found.text.startswith("At the lowest load measured (c4) Beta is the fastest") and found.loads == ("c4",)


def test_an_offline_batch_alone_says_nothing_about_one_user() -> None:
    found = text("one-user", told({"alpha": {OFFLINE: values()}, "beta": {OFFLINE: values(2.0)}}))
    assert found == "No load of this comparison is that of a single user: add one with concurrency = 1."


def test_the_batch_is_the_offline_one_else_the_largest_load() -> None:
    measured = {"alpha": {C4: values(2.0), OFFLINE: values()}, "beta": {C4: values(), OFFLINE: values(2.0)}}
    found = answer("batch", told(measured))
    assert found.loads == ("offline",)
    assert found.text.endswith("Beta serves most: throughput 200 tok/s, 2.00 [1.82, 2.20] times Alpha's.")
    assert answer("batch", told({"alpha": {C1: values(), C4: values()}})).loads == ("c4",)


def test_where_the_lead_changes_hands() -> None:
    measured = {
        "alpha": {C1: values(2.0), C4: values(3.0), C16: values()},
        "beta": {C1: values(), C4: values(), C16: values(3.0)},
    }
    found = text("lead", told(measured, open_at("c4", TTFT)))
    assert found.startswith(
        "Throughput: Alpha leads at c1 and c4 (from 2.00 [1.82, 2.20] times the other at c1 to 3.00 [2.73, 3.30] at "
        "c4); "
        "Beta leads at c16 (3.00 [2.73, 3.30] times the other); the lead changes between c4 and c16. "
    )
    assert found.endswith("not known at c4; the lead changes between c1 and c16.")


def test_a_lead_that_does_not_change() -> None:
    measured = {"alpha": {C1: values(), C4: values()}, "beta": {C1: values(2.0), C4: values(2.0)}}
    assert "Throughput: Beta leads at every load" in text("lead", told(measured))
    assert "changes" not in text("lead", told(measured))
    unknown = told(measured, {**open_at("c1", RATE, TTFT), **open_at("c4", RATE, TTFT)})
    assert text("lead", unknown).startswith("Throughput: nobody is known to lead at c1 and c4.")


@pytest.mark.parametrize(("where", "next_best"), [("c1", "Beta leads at c1"), ("c4", "Beta leads at c4")])
def test_a_leader_whose_numbers_are_invalid_elsewhere_has_not_lost_the_lead(where: str, next_best: str) -> None:
    measured = {
        "alpha": {C1: values(), C4: values()},
        "beta": {C1: values(2.0), C4: values(2.0)},
        "gamma": {C1: values(4.0), C4: values(4.0)},
    }
    made = told(measured, against={("gamma", where): [("ERROR_RATE", "invalid")]})
    assert next_best in text("lead", made) and "changes" not in text("lead", made)


def test_closed_and_open_loops_are_no_sequence() -> None:
    rated = load(5, rate=4.0)
    measured = {"alpha": {C1: values(2.0), rated: values()}, "beta": {C1: values(), rated: values(2.0)}}
    assert "Beta leads at r4" in text("lead", told(measured)) and "changes" not in text("lead", told(measured))


def test_a_round_out_of_line_is_named() -> None:
    made = told({"alpha": {C1: values()}, "beta": {C1: values(2.0)}})
    steady = (100.0, 101.0, 99.0, 100.0, 99.0)
    rounds = {"alpha": steady, "beta": (*steady[:2], 60.0, *steady[3:])}
    found = tuple(
        replace(
            cell,
            rounds=(1, 2, 3, 4, 5),
            metrics={**cell.metrics, RATE: estimate_of(100.0, rounds[cell.candidate])},
        )
        for cell in made.cells
    )
    said = text("distrust", replace(made, cells=found))
    assert said == "Round 3 of Beta is out of line: 0.60 times its usual throughput at c1."


def test_all_told() -> None:
    made = told({"alpha": {C1: values()}, "beta": {C1: values(2.0, ttft_p50=0.1)}})
    assert text("unknown", made) == (
        "Every question was told: 4 pairs and questions, of which 1 is equal within the margin."
    )


def test_what_would_tell_the_rest() -> None:
    made = told({"alpha": {C1: values()}, "beta": {C1: values(1.2)}}, open_at("c1", TTFT, E2E))
    found = answer("unknown", made)
    assert found.text == (
        "2 of 4 questions about two candidates are not known: Beta and Alpha (TTFT and E2E latency at c1). "
        "More rounds would narrow the intervals; how many is not known."
    )
    more = {TTFT: (8, 720.0), E2E: (3, 270.0)}
    pairs = tuple(
        replace(p, more_rounds=more[p.question][0], more_s=more[p.question][1]) if p.question in more else p
        for p in made.pairs
    )
    assert text("unknown", replace(made, pairs=pairs)).endswith(
        "At the spread seen, 8 more rounds, about 12 min, would tell them."
    )
    some = tuple(replace(p, more_rounds=None) if p.question == E2E else p for p in pairs)
    assert text("unknown", replace(made, pairs=some)).endswith(
        "8 more rounds, about 12 min, would tell 1 of them. For the other 1 that is not known."
    )


def test_a_percentile_of_too_few_requests_says_how_many_rounds_would_do() -> None:
    made = told({"alpha": {C1: values()}, "beta": {C1: values(2.0)}})
    few = {"ttft_p99": replace(made.pairs[0], question="ttft_p99", ratio=None, verdict="not known", more_rounds=12)}
    pairs = tuple(few.get(pair.question, pair) for pair in made.pairs)
    assert text("unknown", replace(made, pairs=pairs)) == (
        "Every question was told: 4 pairs and questions. TTFT p99 has too few requests at c1: 12 more rounds would "
        "give it, or more requests a round."
    )


def test_one_round_tells_nothing() -> None:
    made = told({"alpha": {C1: values()}, "beta": {C1: values(1.2)}})
    once = tuple(replace(p, low=None, high=None, rounds=1, verdict="not known") for p in made.pairs)
    assert "One round has no spread" in text("unknown", replace(made, pairs=once))


SLO = Slo(name="fast", ttft_s=0.2, tpot_s=0.02, share=0.9)


def held(**shares: dict[str, float]) -> Comparison:
    """alpha={"c1": 0.99, ...}: the share of good requests by candidate and load."""
    known = {"c1": C1, "c4": C4, "c16": C16}
    return told(
        {name: {known[at]: values(goodput_fraction=share) for at, share in by.items()} for name, by in shares.items()},
        slo=SLO,
    )


def test_who_holds_most_within_the_slo() -> None:
    found = answer("slo", held(alpha={"c1": 0.99, "c4": 0.5, "c16": 0.1}, beta={"c1": 1.0, "c4": 0.95, "c16": 0.2}))
    assert found.text == (
        "Within fast: TTFT 200 ms and TPOT 20 ms, for 90 % of the requests issued, by concurrency: Beta holds most: c4 "
        "(95.0 % good or more in each round; 20.0 % good in the worst round at c16); Alpha holds c1 (50.0 % good in "
        "the worst round at c4)."
    )
    assert found.candidates == ("beta", "alpha") and found.loads == ("c1", "c4", "c16")


def test_both_hold_the_highest_load_measured() -> None:
    found = text("slo", held(alpha={"c1": 0.99, "c4": 0.95}, beta={"c1": 1.0, "c4": 0.93}))
    assert "Alpha and Beta hold: c4" in found and "the limit is not known" in found and "most" not in found


def test_nobody_holds_anything() -> None:
    found = text("slo", held(alpha={"c1": 0.5, "c4": 0.1}, beta={"c1": 0.7, "c4": 0.1}))
    assert "no candidate held even c1 (Alpha: 50.0 % good" in found


def test_a_load_met_in_some_rounds_is_not_held() -> None:
    made = held(alpha={"c1": 0.99, "c4": 0.9})
    cells = tuple(
        replace(cell, metrics={**cell.metrics, "goodput_fraction": estimate_of(0.9, (0.95, 0.8, 0.95))})
        if cell.load == "c4"
        else cell
        for cell in made.cells
    )
    assert "met in 2 of 3 rounds" in text("slo", replace(made, cells=cells))
    assert "Alpha holds: c1" in text("slo", replace(made, cells=cells))


def test_without_an_slo_the_answer_says_how_to_name_one() -> None:
    assert 'slo = "llama3.1-8b-server"' in text("slo", told({"alpha": {C1: values()}, "beta": {C1: values()}}))


def test_open_loops_are_ordered_by_their_rate() -> None:
    slow, quick = load(5, rate=1.0), load(5, rate=4.0)
    made = told({"alpha": {quick: values(goodput_fraction=0.5), slow: values(goodput_fraction=0.99)}}, slo=SLO)
    assert "by rate: Alpha holds: r1" in text("slo", made)


def test_a_candidate_against_itself() -> None:
    made = told({"alpha": {C1: values()}, "beta": {C1: values()}})
    noise = (NoiseFloor(question=RATE, pairs=1, half_width=0.03, largest_half_width=0.04, difference=0.012,
                        largest_difference=0.021),)  # fmt: skip
    test = AATest(candidates=("alpha", "beta"), questions=20, false_verdicts=0, equal=15, noise=noise)
    assert text("aa", replace(made, aa=(test,))) == (
        "Alpha and Beta are the same: 0 of 20 questions called a difference, 15 equal. At the median they seem to "
        "differ in throughput by 1.2 % (at most 2.1 %)."
    )
    wrong = replace(test, false_verdicts=2)
    assert "2 of 20 questions called a difference, which is false" in text("aa", replace(made, aa=(wrong,)))
    nothing = replace(test, questions=0, noise=())
    assert text("aa", replace(made, aa=(nothing,))).endswith("but no question has an interval yet.")


def test_what_differs_that_is_not_speed() -> None:
    made = told({"alpha": {C1: values()}, "beta": {C1: values()}})
    assert text("differs", made) == (
        "Precision is the same: weights bfloat16, KV cache bfloat16. Cold start: Alpha 5.00 s, Beta 5.00 s."
    )
    alpha, beta = made.candidates
    other = replace(made, candidates=(alpha, replace(beta, kv_dtype="float16", cold_start_s={"ready": 60.0})))
    assert text("differs", other).startswith("Precision: weights bfloat16, KV cache bfloat16 (Alpha); weights ")
    assert "Cold start: Alpha 5.00 s, Beta 60.0 s" in text("differs", other)


def test_memory_is_said_as_its_peak_and_a_price_as_its_range() -> None:
    low = values(engine_memory_peak=1e9, cost_per_million_output_tokens=0.5)
    high = values(engine_memory_peak=2e9, cost_per_million_output_tokens=0.25)
    found = text("differs", told({"alpha": {C1: low, C4: high}, "beta": {C1: low, C4: low}}))
    assert "Peak memory: Alpha 2.00 GB, Beta 1.00 GB." in found
    assert "Price per million output tokens: Alpha 0.25 to 0.5 USD, Beta 0.5 USD." in found


def test_another_machine_is_not_spoken_for() -> None:
    found = text("machine", told({"alpha": {C1: values()}, "beta": {C1: values()}}))
    assert "Invented CPU 3000, 8 cores" in found and "`harness report A B`" in found and "tiny-llama" in found


def test_candidates_of_two_machines_are_never_ranked_against_each_other() -> None:
    made = told({"alpha": {C1: values()}, "beta": {C1: values(2.0)}})
    alpha, beta = made.candidates
    apart = replace(
        made,
        candidates=(alpha, replace(beta, machine="box-2", reference="beta")),
        machines=(MachineFacts(id="box-1"), MachineFacts(id="box-2")),
        pairs=(),
    )
    assert "fastest" not in text("one-user", apart) and "nobody can be compared" in text("one-user", apart)


def test_one_candidate_has_nobody_to_be_compared_with() -> None:
    made = told({"alpha": {C1: values()}})
    assert text("one-user", made) == (
        "For one user (c1) Alpha has nobody to be compared with: TPOT 10.0 ms; E2E latency 500 ms; TTFT 100 ms."
    )
    assert {one.key for one in answers(made)} == {"one-user", "batch", "slo", "machine"}


def test_everything_invalid() -> None:
    bad: list[tuple[str, Verdict]] = [("ERROR_RATE", "invalid")]
    made = told(
        {"alpha": {C1: values()}, "beta": {C1: values(2.0)}},
        against={("alpha", "c1"): bad, ("beta", "c1"): bad},
    )
    assert text("one-user", made) == (
        "For one user (c1) nothing can be ranked. Alpha and Beta cannot be ranked: a check found these numbers invalid."
    )
    assert answer("one-user", made).weakened_by == ("ERROR_RATE",)
    assert text("unknown", made).startswith("Nothing could be told")
    assert text("distrust", made) == "Invalid, and not ranked: ERROR_RATE: all 2 cells."


def test_only_the_null_server() -> None:
    made = told({"alpha": {C1: values()}}, null=("alpha",))
    assert text("one-user", made) == "For one user (c1) no engine was measured."


def test_an_interrupted_comparison_says_so() -> None:
    made = told({"alpha": {C1: values()}, "beta": {C1: values()}}, finished=False)
    assert "interrupted" in text("distrust", made)


def test_answers_are_whole_sentences_in_the_order_of_their_topics() -> None:
    found = answers(told({"alpha": {C1: values(), C4: values()}, "beta": {C1: values(2.0), C4: values()}}))
    assert [one.key for one in found] == [topic.key for topic in TOPICS if topic.key not in ("distrust", "aa")]
    for one in found:
        assert one.text.endswith(".") and "None" not in one.text and ".." not in one.text


def test_many_candidates_that_are_not_told_apart_are_named_once() -> None:
    names = ("alpha", "beta", "gamma", "delta", "epsilon")
    plain = Pair(
        candidate="", against="", load="c1", question=TPOT, ratio=1.0, low=0.9, high=1.1, rounds=2, verdict="not known"
    )
    twos = [(one, other) for one in names for other in names if one != other]
    pairs = {(one, other): replace(plain, candidate=one, against=other) for one, other in twos}
    pairs["alpha", "epsilon"] = replace(pairs["alpha", "epsilon"], verdict="faster")
    titles = {name: name.title() for name in names}
    assert group_words(names, pairs, titles) == "Alpha, Beta, Gamma, Delta and Epsilon are not all told apart"
    few = ("alpha", "beta", "epsilon")
    assert "Alpha is ahead of Epsilon" in group_words(few, pairs, titles)
