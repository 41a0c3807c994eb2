"""The time left: starts and what surrounds the loads are in it."""

from __future__ import annotations

import pytest

from harness.commands.progress import Left, Seen, expected_s, time_left
from tests.loads import load

RUNS = [(r, name, one) for r in (1, 2) for name in ("a", "b") for one in ("c1", "c4")]


def seen(load_s: dict[tuple[str, str], float], around_s: float = 0.0, **start_s: float) -> Seen:
    found = Seen()
    found.load_s, found.start_s = load_s, start_s
    found.around_s = dict.fromkeys(load_s, around_s)
    return found


def test_nothing_is_said_before_anything_is_known() -> None:
    assert time_left(RUNS, Seen(), {}, None) is None
    assert time_left([], Seen(), {}, None) is None


def test_loads_by_time_say_how_long_they_take_before_the_first_run() -> None:
    assert time_left(RUNS, Seen(), {"c1": 4.0, "c4": 6.0}, None) == Left(40.0, 40.0, ("a", "b"))
    assert expected_s(load(None, 4, at_least_s=6.0), 99) == 6.0
    assert expected_s(load(rate=2.0, at_least_s=6.0), 12) == 6.0
    assert expected_s(load(40, rate=2.0, ramp_to=6.0), 40) == 10.0
    assert expected_s(load(8, 4), 8) is None and expected_s(load(8), 8) is None


def test_starts_count_once_in_each_round_and_the_running_candidate_has_started() -> None:
    known = seen({("a", "c1"): 5.0, ("a", "c4"): 10.0}, around_s=1.0, a=60.0)
    left = time_left(RUNS[1:], known, {}, (1, "a"))
    # Loads: 10 + 3 x 15, b as long as a; 1 s around each of 7; a starts once more, b's starts are not known.
    assert left == Left(10 + 45 + 7 + 60, 55.0, ("b",))
    known.start_s["b"] = 2.0
    left = time_left(RUNS[1:], known, {}, (1, "a"))
    assert left == Left(10 + 45 + 7 + 60 + 4, 55.0, ())


def test_each_candidates_own_times_come_first() -> None:
    known = seen({("a", "c1"): 5.0, ("b", "c1"): 50.0}, a=0.0, b=0.0)
    assert time_left([(2, "a", "c1"), (2, "b", "c1")], known, {"c1": 1.0}, None) == Left(55.0, 55.0, ())
    left = time_left([(2, "a", "c1"), (2, "a", "offline")], known, {}, None)
    assert left is not None and left.load_s == pytest.approx(10.0)  # of what is known now


def test_the_words() -> None:
    assert Left(450.0, 130.0, ()).words({}) == "about 7:30 left (2:10 of it load)"
    some = Left(450.0, 130.0, ("a", "b"))
    assert some.words({"a": "A", "b": "B"}) == "about 7:30 left (2:10 of it load), and the starts of A and B"
