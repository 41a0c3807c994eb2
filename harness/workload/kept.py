"""Which requests' answers are kept."""

from __future__ import annotations

from harness.workload.schedule import Schedule

KEPT = 4  # requests of each run whose token ids are kept


def kept(schedule: Schedule) -> range:
    """The indices of the requests whose answers are kept: the first ones that meet a full load, from the last slot of a
    closed loop on, or in the middle of an open one."""
    count = len(schedule.requests)
    first = max(0, min(schedule.in_flight - 1, count // 2))
    return range(first, min(first + KEPT, count))
