"""What every kind of load has, and what those have that go on for a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import msgspec

from harness.errors import HarnessError
from harness.workload.enough import Enough
from harness.workload.traces import TraceRequest

Trace = tuple[TraceRequest, ...]
Key = Callable[[str], str]  # a field -> its name for the user: workload.load[0].ramp_to or --ramp-to

LEAST_BURSTINESS = 0.01  # below, a gamma run is a single burst, and most of its gaps are too small for a float
MOST = 1_000_000_000  # of any number: 32 years in seconds, and below the 32 bits that files have for tokens
LEAST_RATE = 1e-9  # requests/s: below, the first arrival is later than anyone waits
MOST_REQUESTS = 1_000_000  # of one load: they are all in memory before the clock starts, 1 GB without their prompts
MOST_IN_FLIGHT = 100_000  # a client has fewer ports than this for one address
MOST_PROMPT_TOKENS = 500_000_000  # of one load, all prompts together: 4 GB in memory
WAVES = 10  # the least of a load by time: requests in each slot, so that percentiles are not those of its first wave
CAP = 4.0  # times `at_least_s`: when sending stops in any case, unless `at_most_s` says otherwise
# Requests per second that are prepared for a load by time: for each slot, and altogether. Requests of 32 tokens at
# 1.5 ms a token are 20 a second; an engine that is faster reaches the end of the schedule before the end of the time.
PREPARED_PER_SLOT, PREPARED_PER_S = 20, 100


class BaseLoad(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """What every kind has. Sending stops after `requests`; some of them may be cancelled by their users."""

    requests: int | None = None
    cancel_fraction: float = 0.0  # of the requests, cancelled by their user
    cancel_after_s: float = 0.0  # this long after they were sent

    open_loop: ClassVar[bool] = False  # sent by the clock, whether or not earlier requests have been answered
    alone: ClassVar[str] = ""  # why a single driver has to replay it; empty if several can share it

    @property
    def name(self) -> str:
        """The name in folders and tables: `c4`, `r2`, `b8`, `offline`, and whatever else sets this load apart."""
        parts = [self._kind(), *self._details()]
        if self.cancel_fraction:
            parts.append(f"cancel{number(100 * self.cancel_fraction)}pct")
        return "-".join(parts)

    def _kind(self) -> str:
        raise NotImplementedError  # every kind defines it, and a load is always one of the kinds

    def _details(self) -> list[str]:
        return []

    def words(self, count: int, offered: float | None = None) -> str:
        """The load in words, with `count` requests; `offered` is the rate of a trace's own times."""
        text = f"{self._kind_in_words(offered)}, {self._amount_in_words(count)}"
        if self.cancel_fraction:
            text += f", {self.cancel_fraction:.0%} cancelled after {self.cancel_after_s:g} s"
        return text

    def _kind_in_words(self, offered: float | None) -> str:
        raise NotImplementedError  # every kind defines it, and a load is always one of the kinds

    def _amount_in_words(self, count: int) -> str:
        return f"{count} requests"

    @property
    def timed(self) -> bool:
        """Whether it goes on for a time: then how many requests are sent depends on the engine."""
        return False

    @property
    def slots(self) -> int | None:
        """The most requests that may be in flight together; None: no limit."""
        return None

    def count(self, trace: Trace = ()) -> int:
        """How many requests the schedule holds; `trace` matters if its times are replayed. Fewer are sent if a
        duration ends the run first."""
        return self.requests or 0

    def most_in_flight(self, trace: Trace = ()) -> int:
        """The most requests that can be in flight together."""
        count = self.count(trace)
        return count if self.slots is None else min(self.slots, count)

    def check(self, where: str, key: Key) -> None:
        """Raises HarnessError for the first field that is out of range or contradicts another. `where` starts the
        message, `key` gives a field's name as the user wrote it."""
        if self.requests is not None:
            check_positive(key("requests"), self.requests, where, MOST_REQUESTS)
        check_from_zero(key("cancel_after_s"), self.cancel_after_s, where)
        check_from_zero(key("cancel_fraction"), self.cancel_fraction, where, 1.0)
        if self.cancel_fraction and not self.cancel_after_s:
            raise HarnessError(
                f"{where}: {key('cancel_fraction')} needs {key('cancel_after_s')}: how long after sending the requests "
                "are cancelled."
            )
        if self.cancel_after_s and not self.cancel_fraction:
            raise HarnessError(
                f"{where}: {key('cancel_after_s')} needs {key('cancel_fraction')}: how many requests are cancelled."
            )

    def _check_prepared(self, where: str, key: Key, enough_for: str = "") -> None:
        if self.requests is None:
            raise HarnessError(
                f"{where}: {key('requests')} is missing: how many prompts to prepare before the clock "
                f"starts{enough_for}."
            )


class TimedLoad(BaseLoad, frozen=True, kw_only=True):
    """A load with a fixed number of requests, or one that goes on for a time.

    `duration_s`: sending stops then, at the latest. With `at_least_s` there is no fixed number: sending goes on until
    `at_least_s` have passed and `at_least_requests` have ended, and stops after `at_most_s` in any case. So the
    requests of a fast engine are as many as its percentiles need, and those of a slow one do not take for ever."""

    duration_s: float | None = None
    at_least_s: float | None = None
    at_least_requests: int | None = None
    at_most_s: float | None = None

    @property
    def timed(self) -> bool:
        return self.at_least_s is not None

    @property
    def together(self) -> int:
        """The most requests in flight together, if the load has a limit; else 1."""
        return self.slots or 1

    @property
    def enough(self) -> Enough | None:
        """When sending stops, if it is not after a fixed number of requests."""
        return None if self.at_least_s is None else Enough(self._least_requests(), self.at_least_s)

    @property
    def stops_after_s(self) -> float | None:
        """When sending stops in any case, in seconds; None: only when all are sent."""
        if self.at_least_s is None:
            return self.duration_s
        return CAP * self.at_least_s if self.at_most_s is None else self.at_most_s

    def _least_requests(self) -> int:
        return WAVES * self.together if self.at_least_requests is None else self.at_least_requests

    def _prepared(self, at_least_s: float) -> int:
        """How many requests the schedule of a load by time holds, before the bound on its tokens (Workload.count)."""
        per_s = max(PREPARED_PER_SLOT * self.together, PREPARED_PER_S)
        return min(MOST_REQUESTS, max(self._least_requests(), math.ceil(per_s * at_least_s)))

    def count(self, trace: Trace = ()) -> int:
        return self._prepared(self.at_least_s) if self.at_least_s is not None else super().count(trace)

    def _details(self) -> list[str]:
        by_time = self.duration_s is not None and self.requests is None
        return [f"{number(self.duration_s)}s"] if by_time and self.duration_s is not None else []

    def _amount_in_words(self, count: int) -> str:
        if self.at_least_s is not None:
            return (
                f"at least {self.at_least_s:g} s and {self._least_requests()} requests, at most "
                f"{self.stops_after_s:g} s"
            )
        lasting = "" if self.duration_s is None else f" at most, sending for {self.duration_s:g} s"
        return f"{count} requests{lasting}"

    def check(self, where: str, key: Key) -> None:
        for field in ("duration_s", "at_least_s", "at_least_requests", "at_most_s"):
            if (value := getattr(self, field)) is not None:
                check_positive(key(field), value, where, MOST_REQUESTS if field == "at_least_requests" else MOST)
        super().check(where, key)
        if self.at_least_s is None:
            for field in ("at_least_requests", "at_most_s"):
                if (value := getattr(self, field)) is not None:
                    raise HarnessError(f"{where}: {key(field)} is {value}, but {key('at_least_s')} is missing.")
            return
        for field in ("requests", "duration_s"):
            if (value := getattr(self, field)) is not None:
                raise HarnessError(
                    f"{where}: {key(field)} is {value}, but {key('at_least_s')} says how long the load goes on; give "
                    "one of them."
                )
        if self.at_most_s is not None and self.at_most_s < self.at_least_s:
            raise HarnessError(
                f"{where}: {key('at_most_s')} is {self.at_most_s}, which is less than {key('at_least_s')} = "
                f"{self.at_least_s}."
            )

    def _check_end(self, where: str, key: Key) -> None:
        """Raises HarnessError if neither a number nor a time ends the load."""
        if not self.timed:
            self._check_prepared(where, key, f", enough for {key('duration_s')}" if self.duration_s is not None else "")


def number(value: float) -> str:
    """The shortest form: 100 x 0.07 is 7, not 7.000000000000001."""
    return f"{value:.12g}"


def check_positive(name: str, value: float, where: str, most: float = MOST) -> None:
    """Raises HarnessError for a number that is not above 0, or above `most`."""
    if not 0 < value <= most:
        raise HarnessError(
            f"{where}: {name} is {value}; it must be {f'at most {most:g}' if value > most else 'above 0'}."
        )


def check_from_zero(name: str, value: float, where: str, most: float = MOST) -> None:
    """Raises HarnessError for a number below 0, or above `most`."""
    if not 0 <= value <= most:
        bound = f"from 0 to {most:g}" if most < MOST else f"at most {most:g}" if value > most else "0 or more"
        raise HarnessError(f"{where}: {name} is {value}; it must be {bound}.")
