"""What the terminal shows while a comparison measures: each run, and the time left."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from harness.campaign.contender import Contender
from harness.campaign.rounds import Rounds
from harness.progress import Display, clock
from harness.records.manifest import Manifest
from harness.workload.loads import AllAtOnce, Load, OpenLoop

Key = tuple[str, str]  # candidate, load


@dataclass(frozen=True, slots=True)
class Left:
    """Seconds left, of which `load_s` are load; `unknown`: candidates whose start has not been seen yet, and whose
    starts are not in `seconds`."""

    seconds: float
    load_s: float
    unknown: tuple[str, ...]

    def words(self, titles: Mapping[str, str]) -> str:
        """`about 7:30 left (2:10 of it load)`; `titles` of the candidates."""
        more = f", and the starts of {' and '.join(titles[name] for name in self.unknown)}" if self.unknown else ""
        return f"about {clock(self.seconds)} left ({clock(self.load_s)} of it load){more}"


def time_left(
    remaining: Sequence[tuple[int, str, str]],
    seen: Seen,
    expected: Mapping[str, float],
    running: tuple[int, str] | None,
) -> Left | None:
    """The time that `remaining` (round, candidate, load) will take; None if nothing of it can be estimated.

    Each load as long as the last time; before that as long as the other candidates took, or what the load itself says
    (`expected`). The same for what surrounds it: probe, warm-up, reading what came back. Each candidate has one start
    in each round, as long as its starts so far; `running` has started already."""
    loads = [seen.guess(seen.load_s, (name, load), expected.get(load)) for _, name, load in remaining]
    known = [seconds for seconds in loads if seconds is not None]
    if not known:
        return None
    load_s = sum(known) + (len(loads) - len(known)) * fmean(known)
    around = sum(seen.guess(seen.around_s, (name, load), 0.0) or 0.0 for _, name, load in remaining)
    starts = [name for r, name in dict.fromkeys((r, name) for r, name, _ in remaining) if (r, name) != running]
    start_s = sum(seen.start_s.get(name, 0.0) for name in starts)
    unknown = tuple(name for name in dict.fromkeys(starts) if name not in seen.start_s)
    return Left(load_s + around + start_s, load_s, unknown)


class Seen:
    """How long things took the last time: each load, what surrounded it, and each candidate's start and stop."""

    def __init__(self) -> None:
        self.load_s: dict[Key, float] = {}
        self.around_s: dict[Key, float] = {}
        self.start_s: dict[str, float] = {}

    @staticmethod
    def guess(taken: Mapping[Key, float], key: Key, otherwise: float | None) -> float | None:
        """As long as the last time, else as the others took for this load, else `otherwise`."""
        if key in taken:
            return taken[key]
        others = [seconds for (_, load), seconds in taken.items() if load == key[1]]
        return fmean(others) if others else otherwise


def expected_s(load: Load, count: int) -> float | None:
    """How long a load will take as far as it says so itself; None if the engine alone decides."""
    if isinstance(load, AllAtOnce):
        return None
    if isinstance(load, OpenLoop):
        return count / load.mean_rate if load.mean_rate else load.duration_s
    return load.at_least_s


class Progress:
    """Counts runs done and left, and estimates the time left."""

    def __init__(self, rounds: Rounds, display: Display) -> None:
        self.rounds, self.display = rounds, display
        self.last_round = rounds.least
        self.remaining = [run for r in range(1, self.last_round + 1) for run in self._missing(r)]
        self.total = len(self.remaining)
        self.seen = Seen()
        self.titles = {name: contender.title for name, contender in rounds.contenders.items()}
        work = rounds.setting.workload
        expected = ((load.name, expected_s(load, work.count(load))) for load in work.load)
        self.expected = {name: seconds for name, seconds in expected if seconds is not None}
        self.out: set[str] = set()
        self.running: str | None = None
        self.at = time.monotonic()  # when the last thing ended

    def _missing(self, round_index: int) -> Iterable[tuple[int, str, str]]:
        for name in self.rounds.contenders:
            for load, _ in self.rounds.missing(name, round_index):
                yield round_index, name, load.name

    def starting(self, contender: Contender) -> None:
        """The candidate begins to start."""
        self.running, self.at = contender.name, time.monotonic()

    def started(self) -> None:
        """It answers."""
        assert self.running is not None
        now = time.monotonic()
        self.seen.start_s[self.running], self.at = now - self.at, now

    def stopped(self) -> None:
        """It was measured, and has stopped, which counts as a part of its start."""
        assert self.running is not None
        self.seen.start_s[self.running] += time.monotonic() - self.at

    def ran(self, contender: Contender, load: Load, manifest: Manifest) -> None:
        """A run has ended."""
        now, key = time.monotonic(), (contender.name, load.name)
        self.seen.load_s[key] = manifest.duration_s
        self.seen.around_s[key] = max(0.0, now - self.at - manifest.duration_s)
        self.at = now
        run = (manifest.round, *key)
        if run in self.remaining:
            self.remaining.remove(run)
        left = time_left(self.remaining, self.seen, self.expected, (manifest.round, contender.name))
        more = f"; {left.words(self.titles)}" if left else ""
        self.display.keep(
            f"run {self.total - len(self.remaining)}/{self.total}  round {manifest.round}/{self.last_round}  "
            f"{contender.title} {load.name}: {manifest.duration_s:.1f} s{more}"
        )
        self.display.say("next load")

    def left_out(self, contender: Contender, why: str) -> None:
        """A candidate takes no part from here on."""
        self.out.add(contender.name)
        self.remaining = [run for run in self.remaining if run[1] != contender.name]
        self.display.keep(f"{contender.title} left out from here on: {why}")

    def further(self, round_index: int) -> None:
        """A round beyond those asked for begins."""
        more = [run for run in self._missing(round_index) if run[1] not in self.out]
        self.remaining += more
        self.total += len(more)
        self.last_round = round_index
        self.display.keep(f"round {round_index}: not all pairs are known to the wanted precision yet")
