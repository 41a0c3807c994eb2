"""A program that prints watts."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from harness.campaign import power_command
from harness.campaign.power_command import PowerCommand, words_of
from harness.errors import HarnessError

pytestmark = pytest.mark.live


def until(found: Callable[[], object], seconds: float = 5.0) -> object:
    ends = time.monotonic() + seconds
    while not (value := found()) and time.monotonic() < ends:
        time.sleep(0.02)
    return value


def test_the_last_number_counts_and_what_is_none_does_not() -> None:
    with PowerCommand(("sh", "-c", "printf '10\\nwarming up\\n20.5\\nnan\\n-1\\n2'; sleep 60")) as power:
        assert until(lambda: power.read().get("command_power_w") == 20.5)  # 2 may go on to 250
        assert power.read() == {"command_power_w": 20.5}
        assert power.cpu_s() >= 0


def test_one_that_ends_is_started_again_and_not_more_often_than_once_a_second() -> None:
    began = time.monotonic()
    with PowerCommand(("date", "+%s.%N")) as power:  # beyond any power, so never taken
        power.read()
        starts = set()
        while time.monotonic() < began + 2.5:
            power.read()
            starts.add(power.started)
            time.sleep(0.02)
        assert 2 <= len(starts) <= 3 and power.read() == {}
    with PowerCommand(("printf", "77")) as power:  # a last line without its end
        assert until(power.read) == {"command_power_w": 77.0}


def test_it_is_never_waited_for_and_an_old_number_is_not_the_power_now(monkeypatch: pytest.MonkeyPatch) -> None:
    with PowerCommand(("sh", "-c", "echo 5; sleep 60")) as power:
        assert until(power.read)
        before = time.monotonic()
        power.read()
        assert time.monotonic() - before < 0.5
        monkeypatch.setattr(power_command, "STALE_S", -1.0)
        assert power.read() == {}


def test_a_program_that_is_not_there_prints_nothing() -> None:
    with PowerCommand(("no-such-program-anywhere",)) as power:
        assert power.read() == power.read() == {}


def test_one_that_prints_no_number_is_refused_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert words_of("") == ()
    assert words_of("sh -c 'echo 12; sleep 60'") == ("sh", "-c", "echo 12; sleep 60")
    monkeypatch.setattr(power_command, "FIRST_S", 0.3)
    with pytest.raises(HarnessError, match="power_command: `echo watts` printed no number"):
        words_of("echo watts")
    with pytest.raises(HarnessError, match="power_command: echo 'x: No closing quotation"):
        words_of("echo 'x")
