"""Whether an engine ran on its own kernels: OWN_KERNELS."""

from __future__ import annotations

from harness.judge.checks.evidence import Evidence, Outcome


def own_kernels(evidence: Evidence) -> Outcome | None:
    """A doubt where its speed is compared all the same, because the user named it; else a note."""
    why = evidence.manifest.endpoint.no_speed
    if not why:
        return None
    return Outcome(
        "note" if evidence.once else "doubt",
        f"These numbers say nothing of the engine's speed: {why}.",
        advice="Measure it where it has its own kernels before choosing by speed.",
    )
