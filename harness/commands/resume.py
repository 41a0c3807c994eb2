"""Continues a comparison: whether what is asked for is what was measured there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import msgspec

from harness.campaign.facts import machine_facts
from harness.commands.candidates import Prepared
from harness.driver.address import without_values
from harness.errors import HarnessError
from harness.records.campaign import CAMPAIGN, Campaign, finished_runs, read_campaign
from harness.records.manifest import EndpointFacts
from harness.records.run import read_run
from harness.records.stored import json_object
from harness.visible import visible
from harness.workload.candidate import Candidate
from harness.workload.plan import Plan, stored

PLAN = "plan.json"


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """`plan.json`: the plan of a comparison, so that resuming it measures the same."""

    plan: Plan
    model_digest: str
    text: bool | None = None  # whether prompts survive the round trip through text; None: not kept yet when written


def to_store(plan: Plan) -> Plan:
    """The plan as it is stored: without the requests of a trace, and without the values of a URL's query, which may be
    keys."""
    kept = stored(plan)
    return replace(kept, candidates=tuple(replace(one, url=without_values(one.url)) for one in kept.candidates))


@dataclass(frozen=True, slots=True)
class Earlier:
    """The comparison to continue: its plan, what was measured, and the candidates that have runs. `campaign` is None if
    it was interrupted before its first run."""

    folder: Path
    asked: StoredPlan
    campaign: Campaign | None
    measured: Collection[str]

    def text(self, needed: bool) -> bool:
        """Whether prompts must survive as text: as before, whichever candidates can take part this time. Raises
        HarnessError if it was not so and a new candidate needs it."""
        before = self.asked.text
        if before is None:
            return needed
        if needed and not before:
            raise HarnessError(
                f"{self.folder}: its prompts were drawn for token ids and may change as text, which a candidate takes "
                "now. Start a new comparison."
            )
        return before

    def skipped_without(self, ready: Collection[str]) -> dict[str, str]:
        """The candidates that were left out and still are."""
        skipped = self.campaign.skipped if self.campaign else {}
        return {name: reason for name, reason in skipped.items() if name not in ready}

    def check(self, asked: StoredPlan, digest: str) -> None:
        """Raises HarnessError if the plans differ: one mean would mix two configurations. `digest`: of all schedules
        now."""
        known = self.campaign is None or self.campaign.schedules_digest == digest
        if self.asked.model_digest != asked.model_digest or not known:
            raise HarnessError(
                f"{self.folder} was measured with other requests; resume it with its own file and model."
            )
        if differing := _differing(self.asked.plan, asked.plan):
            raise HarnessError(
                f"{self.folder} was measured with another {' and '.join(differing)}; resume it with its own file."
            )
        there = {candidate.name: candidate for candidate in self.asked.plan.candidates}
        for candidate in asked.plan.candidates:
            same = _started(there.get(candidate.name, candidate)) == _started(candidate)
            if candidate.name in self.measured and not same:
                raise HarnessError(
                    f"{self.folder}: candidate {candidate.name} differs from the one there; give it a new name."
                )

    def with_more(self, asked: StoredPlan) -> StoredPlan:
        """`asked` with the candidates of both: resuming with a few candidates, or with new ones, keeps the others. One
        that has no run yet is taken as it is now."""
        now = {candidate.name: candidate for candidate in asked.plan.candidates}
        kept = [now.pop(candidate.name, candidate) for candidate in self.asked.plan.candidates]
        return replace(asked, plan=replace(asked.plan, candidates=(*kept, *now.values())))


def read_earlier(folder: Path) -> Earlier:
    """The comparison in `folder`. Raises HarnessError if there is none."""
    try:
        before = msgspec.convert(json_object(folder / PLAN), StoredPlan)
    except (FileNotFoundError, NotADirectoryError):
        raise HarnessError(f"{folder} holds no comparison to resume ({PLAN} is missing).") from None
    except msgspec.MsgspecError as problem:
        raise HarnessError(
            f"{folder / PLAN}: not a plan that this version reads ({visible(str(problem))}). Start a new comparison."
        ) from None
    before = replace(before, plan=to_store(before.plan))  # older versions kept secrets
    campaign = read_campaign(folder) if (folder / CAMPAIGN).is_file() else None
    return Earlier(folder, before, campaign, {path.parents[1].name for path in finished_runs(folder)})


def _differing(before: Plan, asked: Plan) -> list[str]:
    """The keys of the plan that differ. Without those that change no number (the name, the choice of candidates, the
    port, price and power_command, the path of a trace or of texts, whose SHA-256 must match; how sure, how long), and
    without the model, whose digest is compared. How each candidate was really started is checked separately."""
    free = {
        "name",
        "candidates",
        "port",
        "launch",
        "device",
        "model",
        "price",
        "power_command",
        "precision",
        "budget_s",
    }
    one, other = (replace(plan, workload=replace(plan.workload, trace="", texts="")) for plan in (before, asked))
    return [f.name for f in fields(Plan) if f.name not in free and getattr(one, f.name) != getattr(other, f.name)]


def _started(candidate: Candidate) -> Candidate:
    return replace(candidate, launch="", price_usd_per_hour=None)


def check_same_starts(folder: Path, ready: Mapping[str, Prepared], allow_machine: bool) -> None:
    """Raises HarnessError if the earlier rounds were measured from another machine, or if a candidate was started
    differently, from another image or with other weights."""
    first = {path.parents[1].name: path for path in reversed(finished_runs(folder))}
    here = machine_facts()
    for path in () if allow_machine else first.values():
        there = read_run(path).manifest.machine
        if there.id != here.id:
            raise HarnessError(
                f"{folder} was measured from another machine ({there.cpu}, {there.cores} cores; this one: {here.cpu}, "
                f"{here.cores}). Start a new comparison, or continue with --allow machine: then the two are not ranked."
            )
    for name, prepared in ready.items():
        if name not in first:
            continue
        earlier = read_run(first[name]).manifest
        if earlier.model.weights_digest != prepared.contender.model.weights_digest:
            raise HarnessError(
                f"{folder}: the weights of {prepared.contender.title} have changed since. Start a new comparison."
            )
        if prepared.way is not None:
            _check_start(folder, prepared, earlier.endpoint)


def _check_start(folder: Path, prepared: Prepared, earlier: EndpointFacts) -> None:
    assert prepared.way is not None
    was = (earlier.launch, earlier.device, earlier.image.digest if earlier.image else "")
    image = prepared.image
    if was != (prepared.way.launch, prepared.way.device, image.digest if image else ""):
        before = f"a {'container' if earlier.launch == 'compose' else earlier.launch} on the {earlier.device}"
        before += f", {earlier.image.name}, {earlier.image.digest}" if earlier.image else ""
        raise HarnessError(
            f"{folder}: {prepared.contender.title} was measured there as {before}; now it would be a "
            f"{prepared.way}"
            + (f", {image.name}, {image.digest}" if image else "")
            + ". Start it the same way, or start a new comparison."
        )
