"""Which candidates can take part: what is ready at once, what is installed later, and why the rest cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.adapter import Engine
from harness.campaign.contender import title_of
from harness.commands.candidates import Ground, Prepared, look, make_ready, saying, to_install
from harness.errors import CannotStart, HarnessError, fault_text
from harness.progress import Display

GOES_ON = "the others go on, and the exit status will be 1"


@dataclass(slots=True)
class Found:
    """`ready`: the candidates that can start. `waiting`: those that are installed just before their first measurement,
    `later`: how long that takes, as a number to sort by. `skipped`: why the others cannot take part; `faults`: the
    titles of those that a fault of the harness left out."""

    ready: dict[str, Prepared] = field(default_factory=dict)
    waiting: dict[str, Prepared] = field(default_factory=dict)
    later: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    failed: dict[tuple[str, str], str] = field(default_factory=dict)  # engine and version -> why it has no installation

    def must_install(self, name: str, ground: Ground) -> bool:
        """Whether a waiting candidate still has to be installed: another one of the same engine may have been."""
        return to_install(self.waiting[name], ground) > 0

    def install(self, name: str, ground: Ground, display: Display) -> None:
        """Makes a waiting candidate ready. Raises CannotStart."""
        looked = self.waiting.pop(name)
        title, candidate = looked.contender.title, looked.contender.candidate
        same = (candidate.engine, candidate.version) if not (candidate.image or candidate.model) else None
        try:
            if same in self.failed:  # a build that failed once is not tried again
                raise CannotStart(self.failed[same])
            self._made_ready(name, make_ready(looked, ground, saying(title, display.say)), display)
        except CannotStart as problem:
            if same is not None:
                self.failed[same] = str(problem)
            _missed(title, ground, display)
            raise

    def _made_ready(self, name: str, ready: Prepared, display: Display) -> None:
        self.ready[name] = ready
        because = f" ({ready.because})" if ready.because else ""
        display.keep(f"{ready.contender.title}: {ready.how}{because}")

    def look_at(self, name: str, looked: Prepared, ground: Ground, display: Display, wait: bool) -> None:
        """Makes a candidate ready, or has it wait if it must be installed. Raises CannotStart."""
        if wait and (effort := to_install(looked, ground)):
            self.waiting[name], self.later[name] = looked, effort
            display.keep(f"{looked.contender.title}: will be made ready just before it is measured")
        else:
            say = saying(looked.contender.title, display.say)
            self._made_ready(name, make_ready(looked, ground, say), display)


def look_for(known: Mapping[str, Engine], ground: Ground, display: Display, wait: bool) -> Found:
    """The candidates of the plan. With `wait`, those that must be installed wait until it is their turn: what is ready
    is measured first, and never while something is being built beside it. Raises CannotStart if none can take part."""
    found = Found()
    for candidate in ground.plan.candidates:
        engine = known[candidate.engine]
        title = title_of(candidate, engine)
        try:
            found.look_at(candidate.name, look(candidate, engine, ground), ground, display, wait)
        except CannotStart as problem:
            found.skipped[candidate.name] = str(problem)
            display.keep(f"{title} skipped: {problem}")
            _missed(title, ground, display)
        except HarnessError:
            raise
        except (
            Exception
        ) as problem:  # a fault of ours at one candidate: the others can be measured; status 70 at the end
            why = f"a fault of the harness: {fault_text(problem)}"
            found.skipped[candidate.name] = why
            found.faults.append(title)
            display.keep(f"{title} skipped: {why}")
    if not (found.ready or found.waiting):
        raise nothing_started(found.skipped)
    return found


def _missed(title: str, ground: Ground, display: Display) -> None:
    if ground.named and len(ground.plan.candidates) > 1:
        display.keep(f"{title} was named and is missing: {GOES_ON}")


def nothing_started(skipped: Mapping[str, str]) -> CannotStart:
    """The error for a comparison without any run: every candidate's reason in one line."""
    return CannotStart(
        "no candidate could be measured. " + "; ".join(f"{n}: {r.rstrip('.')}" for n, r in skipped.items())
    )
