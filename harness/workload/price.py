"""What the machine costs, by the hour."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Price:
    """The `[price]` table: USD an hour of what one candidate runs on, for every candidate without its own."""

    usd_per_hour: float
