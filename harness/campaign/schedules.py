"""The schedules of a comparison, built once and the same for every candidate."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from harness.campaign.target import Prompts
from harness.errors import HarnessError
from harness.workload.loads import Load
from harness.workload.schedule import Schedule, build_schedule, combined_digest, warmup_schedule
from harness.workload.spec import Workload

SHARED_LOOK, SHARED_MOST = 64, 200_000
HELD_IDS = 4_000_000  # prompt ids kept in memory; beyond that, schedules are read from their files again


class Schedules:
    """The schedule of each load and round. Frozen schedules are read from files; others are kept in memory.

    `whole`: the digest over those of the rounds asked for. A further round has its own in the manifests of its runs:
    whether there is one is decided while measuring, and `whole` has to be known at the first run."""

    def __init__(self, workload: Workload, prompts: Prompts, digests: Sequence[str], folder: Path | None) -> None:
        self.workload, self.prompts, self.folder = workload, prompts, folder
        self.whole = combined_digest(digests)
        self._held: dict[tuple[str, int], Schedule] = {}
        self._held_ids = 0
        self._shared: dict[int, int] = {}

    def get(self, load: Load, round_index: int) -> Schedule:
        """The schedule of one load in one round."""
        key = load.name, round_index
        if key not in self._held:
            self.hold(load, round_index, self._read(load, round_index))
        return self._held[key]

    def hold(self, load: Load, round_index: int, schedule: Schedule) -> None:
        """Keeps one in memory; drops the others if together they are too large."""
        size = sum(len(request.prompt_ids) for request in schedule.requests)
        if self._held_ids + size > HELD_IDS:
            self._held, self._held_ids = {}, 0
        self._held[load.name, round_index] = schedule
        self._held_ids += size

    def shared_prefix(self, round_index: int) -> int | None:
        """The most tokens that two prompts of a round begin with together, over all loads and warm-ups: what an engine
        can find in its cache at most. Counted up to SHARED_LOOK tokens; None for rounds of more than SHARED_MOST
        requests."""
        if round_index not in self._shared:
            loads = self.workload.load
            if sum(map(self.workload.count, loads)) > SHARED_MOST:
                return None
            every = [s for load in loads for s in (self.get(load, round_index), self.warmup(load, round_index))]
            lead = len(self.prompts.lead)
            begins = sorted(r.prompt_ids[lead : lead + SHARED_LOOK] for schedule in every for r in schedule.requests)
            self._shared[round_index] = max((_in_common(one, other) for one, other in pairwise(begins)), default=0)
        return self._shared[round_index]

    def warmup(self, load: Load, round_index: int) -> Schedule:
        """The warm-up requests before it, which are not counted."""
        return warmup_schedule(self.workload, load, round_index, self.prompts.vocabulary, self.prompts.lead)

    def _build(self, load: Load, round_index: int) -> Schedule:
        return build_schedule(self.workload, load, round_index, self.prompts.vocabulary, self.prompts.lead)

    def _read(self, load: Load, round_index: int) -> Schedule:
        if self.folder is None:
            return self._build(load, round_index)
        from harness.records.schedules import read_schedule, schedule_file, write_schedule

        path = schedule_file(self.folder, load.name, round_index)
        if not path.is_file():  # of a round beyond those that were frozen before the first start
            write_schedule(path, self._build(load, round_index))
        return read_schedule(path)


def _in_common(one: Sequence[int], other: Sequence[int]) -> int:
    return next((i for i, (mine, theirs) in enumerate(zip(one, other, strict=False)) if mine != theirs), len(one))


def in_memory(workload: Workload, load: Load, prompts: Prompts) -> Schedules:
    """The schedules of a replay: one load, one round, no files."""
    schedule = build_schedule(workload, load, 1, prompts.vocabulary, prompts.lead)
    found = Schedules(workload, prompts, [schedule.digest], None)
    found.hold(load, 1, schedule)
    return found


def freeze(workload: Workload, rounds: int, prompts: Prompts, folder: Path) -> Schedules:
    """Builds every schedule of a comparison and writes it to its folder if it is not there yet. Raises HarnessError if
    a file there has other requests."""
    from harness.records.schedules import read_schedule, schedule_file, write_schedule

    digests = []
    for round_index in range(1, rounds + 1):
        for load in workload.load:
            schedule = build_schedule(workload, load, round_index, prompts.vocabulary, prompts.lead)
            digests.append(schedule.digest)
            path = schedule_file(folder, load.name, round_index)
            if not path.is_file():
                write_schedule(path, schedule)
            elif read_schedule(path).digest != schedule.digest:
                raise HarnessError(f"{path}: has other requests than this comparison.")
    return Schedules(workload, prompts, digests, folder)


def schedules_digest(workload: Workload, rounds: int, prompts: Prompts) -> str:
    """The digest over all schedules of a comparison, without writing any."""
    every = ((load, r) for r in range(1, rounds + 1) for load in workload.load)
    return combined_digest(
        [build_schedule(workload, load, r, prompts.vocabulary, prompts.lead).digest for load, r in every]
    )
