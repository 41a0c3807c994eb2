"""Load shapes: how the requests of one run arrive, one type for each kind.

A load has a name, a description, a number of requests, and a check for contradictions. The kinds are a tagged union,
so that a stored load is read back as the same kind."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import ClassVar, Literal

import msgspec

from harness.errors import HarnessError
from harness.workload.traces import TraceRequest

Arrivals = Literal["poisson", "constant", "gamma", "trace"]
Trace = tuple[TraceRequest, ...]
Key = Callable[[str], str]  # a field -> its name for the user: workload.load[0].ramp_to or --ramp-to

LEAST_BURSTINESS = 0.01  # below, a gamma run is a single burst, and most of its gaps are too small for a float
MOST = 1_000_000_000  # of any number: 32 years in seconds, and below the 32 bits that files have for tokens
LEAST_RATE = 1e-9  # requests/s: below, the first arrival is later than anyone waits
MOST_REQUESTS = 10_000_000  # of one load: their prompts are all in memory before the clock starts


class _Load(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
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
        raise NotImplementedError

    def _details(self) -> list[str]:
        return []

    def words(self, count: int, offered: float | None = None) -> str:
        """The load in words, with `count` requests; `offered` is the rate of a trace's own times."""
        text = f"{self._kind_in_words(offered)}, {count} requests{self._duration_in_words()}"
        if self.cancel_fraction:
            text += f", {self.cancel_fraction:.0%} cancelled after {self.cancel_after_s:g} s"
        return text

    def _kind_in_words(self, offered: float | None) -> str:
        raise NotImplementedError

    def _duration_in_words(self) -> str:
        return ""

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
        _check_from_zero(key("cancel_after_s"), self.cancel_after_s, where)
        _check_from_zero(key("cancel_fraction"), self.cancel_fraction, where, 1.0)
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


class ClosedLoop(_Load, frozen=True, kw_only=True, tag="closed-loop"):
    """`concurrency` slots, each sending its next request when the last one is done; they open one after the other
    over `ramp_s`."""

    concurrency: int
    ramp_s: float = 0.0
    duration_s: float | None = None

    def _kind(self) -> str:
        return f"c{self.concurrency}"

    def _details(self) -> list[str]:
        parts = [f"ramp{number(self.ramp_s)}s"] if self.ramp_s else []
        return parts + _lasting(self.requests, self.duration_s)

    def _kind_in_words(self, offered: float | None) -> str:
        opening = f" opening over {self.ramp_s:g} s" if self.ramp_s else ""
        return f"closed loop of {self.concurrency}{opening}"

    def _duration_in_words(self) -> str:
        return _sending_for(self.duration_s)

    @property
    def slots(self) -> int | None:
        return self.concurrency

    def check(self, where: str, key: Key) -> None:
        check_positive(key("concurrency"), self.concurrency, where)
        _check_duration(self.duration_s, where, key)
        _check_from_zero(key("ramp_s"), self.ramp_s, where)
        super().check(where, key)
        self._check_prepared(where, key, f", enough for {key('duration_s')}" if self.duration_s is not None else "")
        if self.duration_s is not None and self.ramp_s >= self.duration_s:
            raise HarnessError(
                f"{where}: {key('ramp_s')} is {self.ramp_s}, but sending stops after {key('duration_s')} = "
                f"{self.duration_s}; not all slots would open."
            )


class OpenLoop(_Load, frozen=True, kw_only=True, tag="open-loop"):
    """`rate` requests/s by `arrivals`, rising (or falling) linearly to `ramp_to`; or the times of the workload's trace
    (`arrivals` "trace"), stretched to a mean of `rate` if given. `cap` limits the requests in flight; the time that a
    request waits for it is in its dispatch delay."""

    rate: float | None = None  # requests/s; None only of a trace
    arrivals: Arrivals = "poisson"
    burstiness: float = 1.0  # shape of the gamma distribution; 1 is Poisson, less is burstier, more is more even
    ramp_to: float | None = None  # requests/s at the end
    cap: int | None = None
    duration_s: float | None = None

    open_loop: ClassVar[bool] = True

    @property
    def mean_rate(self) -> float | None:
        """Requests/s over the whole run; None if the trace decides."""
        if self.rate is None:
            return None
        return self.rate if self.ramp_to is None else (self.rate + self.ramp_to) / 2

    def _kind(self) -> str:
        if self.arrivals != "trace":
            return f"r{number(self.rate or 0.0)}"
        return "trace" if self.rate is None else f"trace-r{number(self.rate)}"

    def _details(self) -> list[str]:
        parts = [f"gamma{number(self.burstiness)}"] if self.arrivals == "gamma" else []
        parts += ["constant"] if self.arrivals == "constant" else []
        parts += [] if self.ramp_to is None else [f"to-{number(self.ramp_to)}"]
        parts += [] if self.cap is None else [f"c{self.cap}"]
        return parts + _lasting(self.requests, self.duration_s)

    @property
    def variant(self) -> str:
        """How it differs from plain Poisson arrivals: loads share a line in a chart only if this is the same."""
        parts = [] if self.ramp_to is None else [f"{self.rate:g} to {self.ramp_to:g}"]
        parts += [f"gamma {self.burstiness:g}"] if self.arrivals == "gamma" else []
        parts += [str(self.arrivals)] if self.arrivals in ("constant", "trace") else []
        parts += [f"cap {self.cap}"] if self.cap is not None else []
        parts += ["cancelled"] if self.cancel_fraction else []
        return ", ".join(parts)

    def _kind_in_words(self, offered: float | None) -> str:
        text = self._arrivals_in_words(offered)
        return text if self.cap is None else f"{text}, at most {self.cap} in flight"

    def _arrivals_in_words(self, offered: float | None) -> str:
        if self.arrivals == "trace":
            if self.rate is not None:
                return f"the trace's times, stretched to {self.rate:g} requests/s"
            return "the trace's times" + (f" ({offered:.3g} requests/s)" if offered else "")
        names = {"constant": "even arrivals", "gamma": f"gamma arrivals (shape {self.burstiness:g})"}
        name = names.get(self.arrivals, "Poisson arrivals")
        if self.ramp_to is not None:
            return f"{name} from {self.rate:g} to {self.ramp_to:g} requests/s"
        return f"{name} at {self.rate:g} requests/s"

    def _duration_in_words(self) -> str:
        return "" if self.duration_s is None else f" in {self.duration_s:g} s"

    @property
    def slots(self) -> int | None:
        return self.cap

    def count(self, trace: Trace = ()) -> int:
        """At a rate, `duration_s` holds round(rate x duration) requests, so that their mean rate is the rate asked
        for."""
        most = [] if self.requests is None else [self.requests]
        if self.arrivals == "trace":
            most.append(len(trace))
        if self.duration_s is not None:
            if self.mean_rate is not None:
                most.append(round(self.mean_rate * self.duration_s))
            elif self.arrivals == "trace":
                most.append(bisect_left(trace, self.duration_s, key=lambda request: request.at_s))
        return min(most, default=0)

    def check(self, where: str, key: Key) -> None:
        for field in ("rate", "burstiness", "ramp_to", "cap"):
            if (value := getattr(self, field)) is not None:
                check_positive(key("concurrency" if field == "cap" else field), value, where)
                if field in ("rate", "ramp_to") and value < LEAST_RATE:
                    raise HarnessError(f"{where}: {key(field)} is {value}; the least is {LEAST_RATE:g}.")
        _check_duration(self.duration_s, where, key)
        super().check(where, key)
        if self.arrivals != "gamma" and self.burstiness != 1.0:
            raise HarnessError(
                f"{where}: {key('burstiness')} is {self.burstiness}, but arrivals are {self.arrivals}; only gamma "
                "arrivals use it."
            )
        if self.burstiness < LEAST_BURSTINESS:
            raise HarnessError(f"{where}: {key('burstiness')} is {self.burstiness}; the least is {LEAST_BURSTINESS}.")
        if self.arrivals == "trace" and self.ramp_to is not None:
            raise HarnessError(f"{where}: {key('ramp_to')} is {self.ramp_to}, but the trace sets how the rate changes.")
        self._check_end(where, key)

    def _check_end(self, where: str, key: Key) -> None:
        if self.arrivals != "trace" and self.requests is None and self.duration_s is None:
            raise HarnessError(f"{where}: {key('rate')} needs an end: give {key('requests')} or {key('duration_s')}.")
        if self.mean_rate is not None and self.duration_s is not None:
            asked = self.mean_rate * self.duration_s
            if asked > MOST_REQUESTS:
                raise HarnessError(
                    f"{where}: {key('rate')} {self.mean_rate:g} for {key('duration_s')} {self.duration_s:g} makes "
                    f"{asked:.3g} requests; at most {MOST_REQUESTS} are prepared before the clock starts."
                )


class Batches(_Load, frozen=True, kw_only=True, tag="batches"):
    """Static batches: `batch` requests at once, the next batch when all have ended."""

    batch: int
    duration_s: float | None = None

    alone: ClassVar[str] = "one worker does not see when the requests of the others have ended"

    def _kind(self) -> str:
        return f"b{self.batch}"

    def _details(self) -> list[str]:
        return _lasting(self.requests, self.duration_s)

    def _kind_in_words(self, offered: float | None) -> str:
        return f"static batches of {self.batch}"

    def _duration_in_words(self) -> str:
        return _sending_for(self.duration_s)

    def most_in_flight(self, trace: Trace = ()) -> int:
        return min(self.batch, self.count(trace))

    def check(self, where: str, key: Key) -> None:
        check_positive(key("batch"), self.batch, where)
        _check_duration(self.duration_s, where, key)
        super().check(where, key)
        self._check_prepared(where, key, f", enough for {key('duration_s')}" if self.duration_s is not None else "")
        if self.requests is not None and self.requests % self.batch:
            # The latencies of a smaller last batch would be in the percentiles of this batch size.
            raise HarnessError(
                f"{where}: {key('requests')} is {self.requests}, which is not a multiple of {key('batch')} = "
                f"{self.batch}; the last batch would be smaller."
            )


class AllAtOnce(_Load, frozen=True, kw_only=True, tag="all-at-once"):
    """Everything is sent at once (offline batch)."""

    def _kind(self) -> str:
        return "offline"

    def _kind_in_words(self, offered: float | None) -> str:
        return "offline batch"

    def check(self, where: str, key: Key) -> None:
        super().check(where, key)
        self._check_prepared(where, key)


Load = ClosedLoop | OpenLoop | Batches | AllAtOnce


def number(value: float) -> str:
    """The shortest form: 100 x 0.07 is 7, not 7.000000000000001."""
    return f"{value:.12g}"


def check_positive(name: str, value: float, where: str, most: float = MOST) -> None:
    """Raises HarnessError for a number that is not above 0, or above `most`."""
    if not 0 < value <= most:
        raise HarnessError(
            f"{where}: {name} is {value}; it must be {f'at most {most:g}' if value > most else 'above 0'}."
        )


def _check_from_zero(name: str, value: float, where: str, most: float = MOST) -> None:
    if not 0 <= value <= most:
        bound = f"from 0 to {most:g}" if most < MOST else f"at most {most:g}" if value > most else "0 or more"
        raise HarnessError(f"{where}: {name} is {value}; it must be {bound}.")


def _check_duration(duration_s: float | None, where: str, key: Key) -> None:
    if duration_s is not None:
        check_positive(key("duration_s"), duration_s, where)


def _lasting(requests: int | None, duration_s: float | None) -> list[str]:
    return [f"{number(duration_s)}s"] if duration_s is not None and requests is None else []


def _sending_for(duration_s: float | None) -> str:
    return "" if duration_s is None else f" at most, sending for {duration_s:g} s"
