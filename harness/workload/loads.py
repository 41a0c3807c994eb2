"""Load shapes: how the requests of one run arrive, one type for each kind.

A load has a name, a description, a number of requests, and a check for contradictions. The kinds are a tagged union,
so that a stored load is read back as the same kind."""

from __future__ import annotations

from bisect import bisect_left
from typing import ClassVar, Literal

from harness.errors import HarnessError
from harness.workload.enough import Enough
from harness.workload.load_base import (
    LEAST_BURSTINESS,
    LEAST_RATE,
    MOST,
    MOST_IN_FLIGHT,
    MOST_REQUESTS,
    BaseLoad,
    Key,
    TimedLoad,
    Trace,
    check_from_zero,
    check_positive,
    number,
)

__all__ = ["AllAtOnce", "Arrivals", "Batches", "ClosedLoop", "Key", "Load", "OpenLoop", "check_positive", "number"]

Arrivals = Literal["poisson", "constant", "gamma", "trace"]
OPENING = 1 / 8  # of `at_least_s`: the slots of a load by time open one after the other over this part of it


class ClosedLoop(TimedLoad, frozen=True, kw_only=True, tag="closed-loop"):
    """`concurrency` slots, each sending its next request when the last one is done; they open one after the other
    over `ramp_s`."""

    concurrency: int
    ramp_s: float = 0.0

    @property
    def opening_s(self) -> float:
        """Over how many seconds the slots open. If they all opened at once, a load by time would go on in waves: TTFT
        would be that of a prefill of all slots together."""
        return self.ramp_s or OPENING * (self.at_least_s or 0.0)

    def _kind(self) -> str:
        return f"c{self.concurrency}"

    def _details(self) -> list[str]:
        parts = [f"ramp{number(self.ramp_s)}s"] if self.ramp_s else []
        return parts + super()._details()

    def _kind_in_words(self, offered: float | None) -> str:
        opening = f" opening over {self.ramp_s:g} s" if self.ramp_s else ""
        return f"closed loop of {self.concurrency}{opening}"

    @property
    def slots(self) -> int | None:
        return self.concurrency

    def check(self, where: str, key: Key) -> None:
        check_positive(key("concurrency"), self.concurrency, where, MOST_IN_FLIGHT)
        check_from_zero(key("ramp_s"), self.ramp_s, where)
        super().check(where, key)
        self._check_end(where, key)
        end = "at_least_s" if self.timed else "duration_s"
        if (last := getattr(self, end)) is not None and self.ramp_s >= last:
            stops = "may stop" if self.timed else "stops"
            raise HarnessError(
                f"{where}: {key('ramp_s')} is {self.ramp_s}, but sending {stops} after {key(end)} = {last}; not all "
                "slots would open."
            )


class OpenLoop(TimedLoad, frozen=True, kw_only=True, tag="open-loop"):
    """`rate` requests/s by `arrivals`, rising (or falling) linearly to `ramp_to`; or the times of the workload's trace
    (`arrivals` "trace"), stretched to a mean of `rate` if given. `cap` limits the requests in flight; the time that a
    request waits for it is in its dispatch delay."""

    rate: float | None = None  # requests/s; None only of a trace
    arrivals: Arrivals = "poisson"
    burstiness: float = 1.0  # shape of the gamma distribution; 1 is Poisson, less is burstier, more is more even
    ramp_to: float | None = None  # requests/s at the end
    cap: int | None = None

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
        return parts + super()._details()

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

    def _amount_in_words(self, count: int) -> str:
        return f"{count} requests" + ("" if self.duration_s is None else f" in {self.duration_s:g} s")

    @property
    def timed(self) -> bool:
        """Its number of requests is known before the clock starts, whatever ends it."""
        return False

    @property
    def enough(self) -> Enough | None:
        return None

    @property
    def stops_after_s(self) -> float | None:
        return self.duration_s

    @property
    def slots(self) -> int | None:
        return self.cap

    def count(self, trace: Trace = ()) -> int:
        """At a rate, `duration_s` holds round(rate x duration) requests, so that their mean rate is the rate asked
        for; with `at_least_s` it is at least `at_least_requests`, for `at_most_s` at most."""
        most = [] if self.requests is None else [self.requests]
        if self.at_least_s is not None and self.mean_rate is not None:
            most.append(max(round(self.mean_rate * self.at_least_s), self.at_least_requests or 1))
            most += [] if self.at_most_s is None else [round(self.mean_rate * self.at_most_s)]
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
                most = MOST_IN_FLIGHT if field == "cap" else MOST
                check_positive(key("concurrency" if field == "cap" else field), value, where, most)
                if field in ("rate", "ramp_to") and value < LEAST_RATE:
                    raise HarnessError(f"{where}: {key(field)} is {value}; the least is {LEAST_RATE:g}.")
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
        if self.arrivals != "trace" and self.requests is None and self.duration_s is None and self.at_least_s is None:
            raise HarnessError(
                f"{where}: {key('rate')} needs an end: give {key('requests')}, {key('duration_s')} or "
                f"{key('at_least_s')}."
            )
        if self.at_least_s is not None and self.rate is None:
            raise HarnessError(
                f"{where}: {key('at_least_s')} is {self.at_least_s}, but {key('rate')} is missing: the trace's own "
                "times end where the trace ends."
            )
        for field in ("duration_s", "at_least_s"):
            lasting = getattr(self, field)
            if (
                self.mean_rate is not None
                and lasting is not None
                and (asked := self.mean_rate * lasting) > MOST_REQUESTS
            ):
                raise HarnessError(
                    f"{where}: {key('rate')} {self.mean_rate:g} for {key(field)} {lasting:g} makes "
                    f"{asked:.3g} requests; at most {MOST_REQUESTS:,} are prepared before the clock starts."
                )


class Batches(TimedLoad, frozen=True, kw_only=True, tag="batches"):
    """Static batches: `batch` requests at once, the next batch when all have ended."""

    batch: int

    alone: ClassVar[str] = "one worker does not see when the requests of the others have ended"

    def _kind(self) -> str:
        return f"b{self.batch}"

    def _kind_in_words(self, offered: float | None) -> str:
        return f"static batches of {self.batch}"

    @property
    def together(self) -> int:
        return self.batch

    def count(self, trace: Trace = ()) -> int:
        """A load by time holds whole batches."""
        count = super().count(trace)
        return -(-count // self.batch) * self.batch if self.timed else count

    def most_in_flight(self, trace: Trace = ()) -> int:
        return min(self.batch, self.count(trace))

    def check(self, where: str, key: Key) -> None:
        check_positive(key("batch"), self.batch, where, MOST_IN_FLIGHT)
        super().check(where, key)
        self._check_end(where, key)
        if self.requests is not None and self.requests % self.batch:
            # The latencies of a smaller last batch would be in the percentiles of this batch size.
            raise HarnessError(
                f"{where}: {key('requests')} is {self.requests}, which is not a multiple of {key('batch')} = "
                f"{self.batch}; the last batch would be smaller."
            )


class AllAtOnce(BaseLoad, frozen=True, kw_only=True, tag="all-at-once"):
    """Everything is sent at once (offline batch)."""

    def _kind(self) -> str:
        return "offline"

    def _kind_in_words(self, offered: float | None) -> str:
        return "offline batch"

    def check(self, where: str, key: Key) -> None:
        super().check(where, key)
        self._check_prepared(where, key)


Load = ClosedLoop | OpenLoop | Batches | AllAtOnce
