"""When a load that has no fixed number of requests has had enough."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Enough:
    """Sending stops when `requests` have ended and `seconds` have passed since the start, whichever comes last."""

    requests: int
    seconds: float
