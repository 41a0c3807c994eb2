"""Lengths drawn from a range: bounded, seeded, and with the same total in every block of 16 requests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from harness.errors import HarnessError
from harness.workload.lengths import BLOCK, Lengths, deck, parse_lengths
from harness.workload.plan import Plan, read_plan, stored
from harness.workload.schedule import build_schedule
from harness.workload.spec import Workload
from tests.loads import load
from tests.workload.schedule_parts import TRACED, WORDS

WIDE = Lengths(32, 96)
WORK = Workload(input_tokens=WIDE, output_tokens=Lengths(16, 48), load=(load(64, 4), load(64)))
PLAN = """
name = "x"
[workload]
input_tokens = INPUT
output_tokens = 4
[[workload.load]]
concurrency = 2
requests = 32
"""


def plan_from(tmp_path: Path, given: str, more: str = "") -> Plan:
    (tmp_path / "c.toml").write_text(PLAN.replace("INPUT", given) + more)
    return read_plan(tmp_path / "c.toml")


def lengths_of(work: Workload, which: int, round_index: int) -> list[tuple[int, int]]:
    requests = build_schedule(work, work.load[which], round_index, WORDS).requests
    return [(len(request.prompt_ids), request.output_tokens) for request in requests]


def test_a_block_covers_its_range_evenly() -> None:
    cards = deck(WIDE)
    assert len(cards) == BLOCK and cards[0] == 34 and cards[-1] == 94
    assert {b - a for a, b in zip(cards, cards[1:], strict=False)} == {4}
    assert sum(cards) == BLOCK * 64
    assert deck(Lengths(5, 5)) == [5] * BLOCK
    assert set(deck(Lengths(1, 2))) == {1, 2}


def test_every_prefix_of_whole_blocks_has_the_same_total_in_every_round_and_at_every_load() -> None:
    drawn = [lengths_of(WORK, which, r) for which in (0, 1) for r in (1, 2, 3)]
    for blocks in (1, 2, 4):
        totals = {tuple(map(sum, zip(*lengths[: blocks * BLOCK], strict=True))) for lengths in drawn}
        assert totals == {(blocks * BLOCK * 64, blocks * BLOCK * 32)}
    assert len({tuple(lengths) for lengths in drawn}) == len(drawn)  # each round and load is shuffled anew
    quarter = {n: i // 4 for i, n in enumerate(deck(WIDE))}
    for lengths in drawn:  # a load that ends within a block has hardly other lengths than one that ends with it
        assert all({quarter[n] for n, _ in lengths[at : at + 4]} == {0, 1, 2, 3} for at in range(0, len(lengths), 4))
    first = drawn[0]
    assert len({quarter[n] for n, _ in first[::4]}) > 1  # the groups are shuffled too
    assert lengths_of(WORK, 0, 1) == first
    assert first != lengths_of(replace(WORK, seed=2), 0, 1)
    # Inputs and outputs are shuffled independently: a long prompt does not go with a long answer.
    assert [a for a, _ in first[:BLOCK]] != [a for a, _ in first[BLOCK : 2 * BLOCK]]
    ranks = [[sorted(column).index(x) for x in column] for column in map(list, zip(*first[:BLOCK], strict=True))]
    assert ranks[0] != ranks[1]


def test_the_longest_request_is_the_longest_of_both_whichever_way_they_are_shuffled() -> None:
    assert WORK.longest == 96 + 48
    assert (WORK.most_input_tokens, WORK.most_output_tokens) == (96, 48)
    traced = replace(TRACED, output_tokens=Lengths(3, 9))
    assert (traced.longest, traced.most_input_tokens, traced.most_output_tokens) == (40 + 9, 40, 9)
    assert {n for _, n in traced.lengths(4)} <= set(deck(Lengths(3, 9)))
    assert [n for n, _ in traced.lengths(4)] == [20, 10, 30, 40]


def test_a_range_is_read_from_a_file_and_stored(tmp_path: Path) -> None:
    plan = plan_from(tmp_path, "{from = 32, to = 96}")
    assert plan.workload.input_tokens == WIDE and plan.workload.output_tokens == 4
    kept = msgspec.json.encode(stored(plan))
    assert b'{"from":32,"to":96}' in kept and msgspec.json.decode(kept, type=Plan) == plan


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{from = 9, to = 8}", "workload.input_tokens is from 9 to 8; the end is below the start."),
        ("{from = 0, to = 8}", "workload.input_tokens.from is 0; it must be above 0."),
        ("{from = 3, too = 8}", "unknown key 'workload.input_tokens.too'. Did you mean 'workload.input_tokens.to'?"),
        ("{from = 3}", "missing required field `to`"),
        ("{from = 8, to = 1021}", "1021 prompt + 4 output tokens = 1025 exceed profile.context_tokens = 1024"),
        ('"8"', "Expected `int | object | null`, got `str`"),
    ],
)
def test_mistakes_get_one_line(tmp_path: Path, given: str, said: str) -> None:
    with pytest.raises(HarnessError) as caught:
        plan_from(tmp_path, given)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_range_on_the_command_line() -> None:
    assert parse_lengths("32:96") == WIDE and parse_lengths("7") == 7
    for text in ("a", "1:", ":2", "1:2:3", "1e3", "٣٢", "1" * 5000):
        with pytest.raises(ValueError, match=r".*"):
            parse_lengths(text)
