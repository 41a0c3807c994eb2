"""Counterbalanced orders: nobody is always first, or always after the same one."""

from __future__ import annotations

from collections import Counter

import pytest

from harness.campaign.order import candidate_order, williams

SEEDS = range(200)


def names_of(k: int) -> list[str]:
    return [f"candidate-{i}" for i in range(k)]


@pytest.mark.parametrize("k", [2, 3, 4, 5, 6])
def test_over_a_cycle_each_is_at_each_place_and_after_each_other_equally_often(k: int) -> None:
    for seed in SEEDS:
        orders = [candidate_order(names_of(k), seed, r) for r in range(1, len(williams(k)) + 1)]
        assert all(sorted(order) == names_of(k) for order in orders)
        places = Counter((name, i) for order in orders for i, name in enumerate(order))
        after = Counter((a, b) for order in orders for a, b in zip(order, order[1:], strict=False))
        assert len(places) == k * k and len(set(places.values())) == 1
        assert len(after) == k * (k - 1) and len(set(after.values())) == 1


@pytest.mark.parametrize("k", [2, 3, 4, 5, 6])
def test_no_seed_gives_one_order_in_all_rounds_and_every_second_round_is_a_mirror_image(k: int) -> None:
    for seed in SEEDS:
        orders = [candidate_order(names_of(k), seed, r) for r in range(1, 6)]
        assert orders[1] == orders[0][::-1] != orders[0] and orders[3] == orders[2][::-1]
        assert len({tuple(order) for order in orders}) == (2 if k == 2 else min(5, len(williams(k))))


def test_two_take_turns_and_the_seed_decides_who_begins() -> None:
    orders = [[candidate_order(["a", "b"], seed, r)[0] for r in range(1, 6)] for seed in SEEDS]
    assert {tuple(first) for first in orders} == {("a", "b", "a", "b", "a"), ("b", "a", "b", "a", "b")}


def test_one_candidate_and_none_have_an_order_too() -> None:
    assert candidate_order(["a"], 1, 7) == ["a"] and candidate_order([], 1, 7) == []


def test_every_seed_gives_the_same_again() -> None:
    assert candidate_order(names_of(5), 3, 2) == candidate_order(names_of(5), 3, 2)
