"""Whether the client's own work is in what it measured: CLIENT_LAG and CPU_CONTENTION."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.judge.checks.evidence import Check, Evidence, Verdict, worst
from harness.records.metrics import slot_time_lost

LAG_DOUBT, LAG_INVALID = 0.02, 0.10  # of the time in flight
FLOOR_DOUBT, FLOOR_INVALID = 0.02, 0.10  # of the cell's own latency
ABOVE_FLOOR = 1.10  # times the token rate that the calibration reached
STAMPED_DOUBT = 0.99  # of the reads
CLIENT_CPU_DOUBT = 0.10  # of one core


def client_lag_share(evidence: Evidence) -> Check:
    """Which part of what was measured is the driver's own.

    Latencies use the kernel's arrival times, so a late read bends none of them. What it bends is throughput:
    a slot whose last token waits to be read sends its next request that much later. What the driver adds
    otherwise (sending, the kernel, the loopback) is the floor: its error against a null server whose own log
    says when it sent what, at the same load."""
    lag_p99 = max((v for v in evidence.metrics["client_lag_p99"].per_round if v is not None), default=None)
    lost, flight = (sum(part) for part in zip(*map(slot_time_lost, evidence.runs), strict=True))
    share = lost / flight if flight else None
    stamped = _stamped(evidence)
    numbers: dict[str, Any] = {"lag_p99_s": lag_p99, "slot_time_lost": share, "kernel_stamped_fraction": stamped}
    if lag_p99 is None or share is None:
        return Check("CLIENT_LAG", "doubt", numbers, "There is no chunk to take the lag from.", "")
    floor_numbers, found = _against_floor(evidence)
    numbers |= floor_numbers
    calm = "" if evidence.floor else " The client was not calibrated at this load."
    if stamped < STAMPED_DOUBT:
        found.append(
            (
                "doubt",
                f"The kernel stamped {stamped:.0%} of the arrivals: for the rest the client's own lag is inside "
                "the latency, unseen.",
                "Run on a system with SO_TIMESTAMPING, or compare with a run of the null engine at this load.",
            )
        )
    text = (
        f"{lag_p99 * 1e3:.3g} ms late at p99; {share:.1%} of the time in flight was the driver's. "
        "Latencies use the kernel's arrival."
    )
    if share > LAG_DOUBT:
        advice = "Give the driver a core of its own, or spread it over more worker processes."
        found.append(("invalid" if share > LAG_INVALID else "doubt", f"The driver read {text}", advice))
    if not found:
        floor_text = f" {_floor_text(floor_numbers)}" if evidence.floor else calm
        return Check("CLIENT_LAG", "ok", numbers, f"The driver kept up: {text}{floor_text}", "")
    messages = " ".join(message for _, message, _ in found)
    advices = " ".join(dict.fromkeys(advice for _, _, advice in found))
    return Check("CLIENT_LAG", worst(verdict for verdict, _, _ in found), numbers, f"{messages}{calm}", advices)


def _stamped(evidence: Evidence) -> float:
    """The smallest share of stamped arrivals that a round had. Chunks without a kernel stamp count as arrived
    when read: their lag would pass for none."""
    told = [run.manifest.client.get("kernel_stamped_fraction") for run in evidence.runs]
    lagged = any(evidence.metrics["client_lag_p99"].per_round)
    return min((share for share in told if share is not None), default=float(lagged))


Found = tuple[Verdict, str, str]  # verdict, message, advice


def _against_floor(evidence: Evidence) -> tuple[dict[str, Any], list[Found]]:
    """The floor beside the cell, and what it casts doubt on."""
    floor = evidence.floor
    if floor is None:
        return {"floor": None}, []
    mean = {key: evidence.metrics[key].mean for key in ("ttft_p50", "tpot_p50", "output_throughput")}
    shares = {
        "TTFT": _share(floor.ttft_error_p50_s, mean["ttft_p50"]),
        "TPOT": _share(floor.tpot_error_p99_s, mean["tpot_p50"]),
    }
    rate = mean["output_throughput"]
    over = rate / floor.tokens_per_s if rate is not None and floor.tokens_per_s > 0 else None
    numbers = {
        "floor": {
            "ttft_error_p50_s": floor.ttft_error_p50_s,
            "ttft_error_p99_s": floor.ttft_error_p99_s,
            "tpot_error_p99_s": floor.tpot_error_p99_s,
            "tokens_per_s": floor.tokens_per_s,
            "failed": floor.failed,
        },
        "floor_share_of_ttft": shares["TTFT"],
        "floor_share_of_tpot": shares["TPOT"],
        "rate_over_floor": over,
    }
    found: list[Found] = []
    errors = {"TTFT": (floor.ttft_error_p50_s, "p50"), "TPOT": (floor.tpot_error_p99_s, "p99")}
    for name, share in shares.items():
        error, q = errors[name]
        if share is not None and error is not None and share > FLOOR_DOUBT:
            found.append(
                (
                    "invalid" if share > FLOOR_INVALID else "doubt",
                    f"Against the null server the client's own {name} error is {error * 1e3:.3g} ms ({q}): "
                    f"{share:.1%} of this {name}.",
                    "Give the driver a core of its own, or spread it over more worker processes.",
                )
            )
    if over is not None and over > ABOVE_FLOOR:
        found.append(
            (
                "doubt",
                f"Calibrated at a lower load than this: {rate:.4g} tokens/s here, {floor.tokens_per_s:.4g} there.",
                "Calibrate with a faster null server.",
            )
        )
    if floor.failed:
        found.append(
            (
                "doubt",
                f"{floor.failed} of {floor.requests} requests of the calibration failed.",
                "Calibrate again; the null server refuses nothing, so the client or the system did.",
            )
        )
    return numbers, found


def _share(error: float | None, of: float | None) -> float | None:
    # An error below zero is one as well.
    return abs(error) / of if error is not None and of else None


def _floor_text(numbers: Mapping[str, Any]) -> str:
    parts = [
        f"{share:.1%} of {name}"
        for name, share in (("TTFT", numbers["floor_share_of_ttft"]), ("TPOT", numbers["floor_share_of_tpot"]))
        if share is not None
    ]
    return f"Its own floor is {' and '.join(parts)}." if parts else "Its own floor is not known at this load."


def cpu_contention(evidence: Evidence) -> Check:
    """A client that takes the engine's cores slows what it measures."""
    shares: list[float | None] = []
    shared = False
    for run in evidence.runs:
        manifest = run.manifest
        cpu_s = manifest.client.get("cpu_s")
        shares.append(cpu_s / manifest.duration_s if cpu_s is not None and manifest.duration_s > 0 else None)
        cores, threads = manifest.machine.get("cores"), manifest.settings.get("threads")
        # Threads null or 0: the engine takes every core that it may.
        full = not threads or cores is None or threads >= cores
        shared |= bool(manifest.client.get("same_machine")) and full
    known = [share for share in shares if share is not None]
    numbers = {"shared_cores": shared, "client_cores": max(known, default=None)}
    if not shared:
        return Check("CPU_CONTENTION", "ok", numbers, "The client has a core that the engine leaves free.", "")
    if len(known) < len(shares):
        return Check(
            "CPU_CONTENTION",
            "doubt",
            numbers,
            "Client and engine share the cores, and the client's CPU time is not recorded.",
            "Leave the engine one thread less than there are cores.",
        )
    text = f"client and engine share the cores; the client took {max(known):.1%} of one core"
    if max(known) < CLIENT_CPU_DOUBT:
        return Check("CPU_CONTENTION", "ok", numbers, f"Little contention: {text}.", "")
    return Check(
        "CPU_CONTENTION",
        "doubt",
        numbers,
        f"Contention: {text}.",
        "Leave the engine one thread less than there are cores.",
    )
