"""The line to one engine: where its requests go, in which dialect, and by which driver."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.adapter import Dialect, TritonDialect
from harness.campaign.recording import Measured, measured
from harness.driver.address import Address
from harness.driver.http import job_of
from harness.driver.workers import replay_split
from harness.workload.schedule import Request, Schedule

Text = Callable[[Sequence[int]], str]


@dataclass(frozen=True, slots=True)
class Line:
    """`text` writes a prompt out for a dialect that takes no ids."""

    endpoint: Address
    dialect: Dialect | TritonDialect
    deadline_s: float
    text: Text

    def prompt(self, ids: Sequence[int]) -> object:
        """A prompt as the dialect takes it."""
        return self.text(ids) if self.dialect.prompt == "text" else ids

    def replay(self, schedule: Schedule, workers: int = 1, folder: Path | None = None) -> Measured:
        """Every request of the schedule, at its time. Raises OSError when the disk is full, HarnessError when a
        worker fails; what an engine does wrong is a failed record."""
        dialect = self.dialect
        if isinstance(dialect, TritonDialect):
            from harness.campaign.triton import replay_triton  # needs a library that few have

            return replay_triton(self.endpoint, dialect, schedule, self.deadline_s, self.text)

        def write(request: Request) -> bytes:
            return dialect.body(self.prompt(request.prompt_ids), request.output_tokens)

        job = job_of(self.endpoint, dialect, schedule, self.deadline_s, body=write)
        return measured(replay_split(job, workers, folder), schedule, dialect.parse)
