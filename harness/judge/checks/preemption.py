"""Whether the engine interrupted running requests for want of KV cache: PREEMPTION."""

from __future__ import annotations

from harness.judge.checks.evidence import Evidence, Outcome

PREEMPTED_DOUBT = 0.01  # of the requests


def preemption(evidence: Evidence) -> Outcome | None:
    """A preempted request is computed again: its answer pauses, and throughput is lost to work that is done twice. None
    if the engine does not count them."""
    known = [count for run in evidence.runs if (count := run.manifest.counters.get("preemptions")) is not None]
    if not known:
        return None
    count, requests = int(sum(known)), sum(len(run.requests["status"]) for run in evidence.runs)
    numbers = {"preemptions": count, "requests": requests, "rounds": len(known)}
    if not count:
        return Outcome("ok", "The engine preempted no request.", numbers)
    return Outcome(
        "doubt" if count > PREEMPTED_DOUBT * requests else "note",
        f"The engine preempted requests {count} times in {requests} requests: its KV cache was full, and it computed "
        "their tokens again.",
        numbers,
        "Give it more room for the KV cache, or fewer concurrent sequences, if another candidate has it.",
    )
