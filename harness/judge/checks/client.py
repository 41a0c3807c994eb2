"""Whether the client distorts what it measures: CLIENT_LAG, CPU_CONTENTION, NETWORK."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.judge.checks.evidence import Evidence, Outcome, Verdict, worst
from harness.records.calibration import ABOVE_FLOOR, Floor
from harness.records.latencies import slot_time_lost
from harness.records.run import RunResult

LAG_DOUBT, LAG_INVALID = 0.02, 0.10  # of the time in flight
FLOOR_DOUBT, FLOOR_INVALID = 0.02, 0.10  # of the cell's own latency
STAMPED_DOUBT = 0.99  # of the reads
CLIENT_BUSY = 0.5  # of the time of each worker
CLIENT_CPU_DOUBT = 0.10  # of one core
ENGINE_FULL = 0.9  # of the machine's cores, kept busy by the engine whatever its threads are set to


def client_lag_share(evidence: Evidence) -> Outcome:
    """How much of the measured time is the driver's own.

    Latencies use the kernel's arrival times, so a late read changes none of them. It lowers throughput: a slot whose
    last token waits to be read sends its next request that much later. Everything else that the driver adds (sending,
    the kernel, the loopback) is the floor: its error against a null server, whose log says when it sent what, at the
    same load."""
    lag_p99 = max((v for v in evidence.metrics["client_lag_p99"].per_round if v is not None), default=None)
    lost, flight = (sum(part) for part in zip(*map(slot_time_lost, evidence.runs), strict=True))
    share = lost / flight if flight else None
    stamped = _stamped(evidence)
    numbers: dict[str, Any] = {"lag_p99_s": lag_p99, "slot_time_lost": share, "kernel_stamped_fraction": stamped}
    if lag_p99 is None or share is None:
        return Outcome("doubt", "There are no chunks, so the client's lag is not known.", numbers)
    floor_numbers, found = _against_floor(evidence)
    numbers |= floor_numbers
    calm = "" if evidence.floor else " The client was not calibrated at this load."
    if stamped < STAMPED_DOUBT:
        found.append(
            (
                "doubt",
                f"The kernel stamped only {stamped:.0%} of the arrivals: the latencies of the rest include the "
                "client's own lag.",
                "Run on a system with SO_TIMESTAMPING, or compare with a run of the null engine at this load.",
            )
        )
    text = (
        f"{lag_p99 * 1e3:.3g} ms late at p99; {share:.1%} of the time in flight was the driver's. "
        "Latencies use the kernel's arrival times."
    )
    if share > LAG_DOUBT:
        advice = "Give the driver its own core, or more worker processes."
        found.append(("invalid" if share > LAG_INVALID else "doubt", f"The driver read {text}", advice))
    if not found:
        floor_text = f" {_floor_text(floor_numbers)}" if evidence.floor else calm
        return Outcome("ok", f"The driver kept up: {text}{floor_text}", numbers)
    messages = " ".join(message for _, message, _ in found)
    advices = " ".join(dict.fromkeys(advice for _, _, advice in found))
    return Outcome(worst(verdict for verdict, _, _ in found), f"{messages}{calm}", numbers, advices)


def _stamped(evidence: Evidence) -> float:
    """The smallest share of stamped arrivals of any round. Chunks without a kernel stamp count as arrived when read,
    so their lag would look like 0."""
    known = [run.manifest.client.kernel_stamped_fraction for run in evidence.runs]
    lagged = any(evidence.metrics["client_lag_p99"].per_round)
    return min((share for share in known if share is not None), default=float(lagged))


Found = tuple[Verdict, str, str]  # verdict, message, advice


def _against_floor(evidence: Evidence) -> tuple[dict[str, Any], list[Found]]:
    """The floor compared with the cell's numbers, and the doubts that follow."""
    floor = evidence.floor
    if floor is None:
        return {"floor": None}, []
    mean = {key: evidence.metrics[key].mean for key in ("ttft_p50", "tpot_p50", "tpot_p99", "output_throughput")}
    shares = {
        "TTFT": _share(floor.ttft_error_p50_s, mean["ttft_p50"]),
        "TPOT": _share(floor.tpot_error_p50_s, mean["tpot_p50"]),
        "TPOT p99": _share(floor.tpot_error_p99_s, mean["tpot_p99"]),
    }
    rate = mean["output_throughput"]
    over = rate / floor.tokens_per_s if rate is not None and floor.tokens_per_s > 0 else None
    numbers = {
        "floor": {
            "ttft_error_p50_s": floor.ttft_error_p50_s,
            "ttft_error_p99_s": floor.ttft_error_p99_s,
            "tpot_error_p50_s": floor.tpot_error_p50_s,
            "tpot_error_p99_s": floor.tpot_error_p99_s,
            "tokens_per_s": floor.tokens_per_s,
            "interval_s": floor.interval_s,
            "repeats": floor.repeats,
            "disturbed": floor.disturbed,
            "failed": floor.failed,
        },
        "floor_share_of_ttft": shares["TTFT"],
        "floor_share_of_tpot": shares["TPOT"],
        "floor_share_of_tpot_p99": shares["TPOT p99"],
        "rate_over_floor": over,
    }
    return numbers, _floor_doubts(floor, shares) + _rate_doubts(floor, over, _busy(evidence.runs))


def _floor_doubts(floor: Floor, shares: Mapping[str, float | None]) -> list[Found]:
    """`shares`: the floor's error as a share of this cell's TTFT and TPOT, a median against a median and a p99 against
    a p99."""
    found: list[Found] = []
    errors = {"TTFT": floor.ttft_error_p50_s, "TPOT": floor.tpot_error_p50_s, "TPOT p99": floor.tpot_error_p99_s}
    for name, share in shares.items():
        error = errors[name]
        if share is not None and error is not None and share > FLOOR_DOUBT:
            text = f"Against the null server the client's own error in {name} is {error * 1e3:.3g} ms: "
            advice = "Give the driver its own core, or more worker processes."
            # The p99 of a short calibration rests on a few requests: it can warn, but not condemn.
            bad = share > FLOOR_INVALID and name != "TPOT p99"
            found.append(("invalid" if bad else "doubt", f"{text}{share:.1%} of this {name}.", advice))
    return found


def _rate_doubts(floor: Floor, over: float | None, busy: float | None) -> list[Found]:
    """`over`: the cell's token rate over the floor's; `busy`: the share of the time that a worker was busy. A client
    that is idle most of the time errs no more at a higher rate: the floor still holds."""
    found: list[Found] = []
    if over is not None and over > ABOVE_FLOOR and (busy is None or busy > CLIENT_BUSY):
        text = f"The client was calibrated at a lower rate: {floor.tokens_per_s:.4g} tokens/s, "
        text += f"but {over * floor.tokens_per_s:.4g} tokens/s here"
        text += "." if busy is None else f", with the client busy for {busy:.0%} of the time."
        advice = "Calibrate on this machine again while it is idle, or use more worker processes."
        found.append(("doubt", text, advice))
    if floor.failed:
        text = f"{floor.failed} of {floor.requests} requests of the calibration failed."
        advice = "Calibrate again; the null server refuses nothing, so the client or the system failed."
        found.append(("doubt", text, advice))
    return found


def _share(error: float | None, of: float | None) -> float | None:
    # A negative error is an error too.
    return abs(error) / of if error is not None and of else None


def _floor_text(numbers: Mapping[str, Any]) -> str:
    parts = [
        f"{share:.1%} of {name}"
        for name, share in (("TTFT", numbers["floor_share_of_ttft"]), ("TPOT", numbers["floor_share_of_tpot"]))
        if share is not None
    ]
    return f"Its own floor is {' and '.join(parts)}." if parts else "Its own floor is not known at this load."


def cpu_contention(evidence: Evidence) -> Outcome:
    """A client that takes CPU time from the engine slows what it measures."""
    shared, used = False, evidence.metrics["engine_cpu_cores"].mean
    for run in evidence.runs:
        endpoint, cores = run.manifest.endpoint, run.manifest.machine.cores
        given = endpoint.settings.get("threads")
        threads = given if isinstance(given, int) else None
        # Threads None or 0: the engine uses every core that it may.
        full = not threads or cores is None or threads >= cores or (used is not None and used > ENGINE_FULL * cores)
        shared |= bool(endpoint.same_machine) and full
    shares = [_client_cores(run) for run in evidence.runs]
    known = [share for share in shares if share is not None]
    numbers = {"shared_cores": shared, "client_cores": max(known, default=None), "engine_cores": used}
    if not shared:
        apart = not any(run.manifest.endpoint.same_machine for run in evidence.runs)
        text = "The engine leaves the client a free core."
        return Outcome("ok", "Not known to share a machine with the client." if apart else text, numbers)
    advice = "Give the engine one thread fewer than there are cores."
    if len(known) < len(shares):
        text = "Client and engine share the cores, and the client's CPU time is not recorded."
        return Outcome("doubt", text, numbers, advice)
    text = f"client and engine share the cores; the client took {max(known):.1%} of one core"
    text += "" if used is None else f", the engine kept {used:.2f} busy"
    if max(known) < CLIENT_CPU_DOUBT:
        return Outcome("ok", f"Little contention: {text}.", numbers)
    return Outcome("doubt", f"Contention: {text}.", numbers, advice)


def _busy(runs: Sequence[RunResult]) -> float | None:
    """The busiest round's CPU time of the client, as a share of its workers' time; None if it is not recorded."""
    shares = [(cores, run.manifest.client.workers) for run in runs if (cores := _client_cores(run)) is not None]
    return max(cores / workers for cores, workers in shares) if len(shares) == len(runs) else None


def _client_cores(run: RunResult) -> float | None:
    cpu_s, duration_s = run.manifest.client.cpu_s, run.manifest.duration_s
    return cpu_s / duration_s if cpu_s is not None and duration_s > 0 else None


def network(evidence: Evidence) -> Outcome:
    """Latencies of a server on another machine include the network; compared with a candidate on this machine, that
    difference is not the engine's."""
    places = {run.manifest.endpoint.same_machine for run in evidence.runs}
    peers = evidence.peers.runs if evidence.peers else {}
    table = {name: runs[0].manifest.endpoint.same_machine for name, runs in peers.items()}
    numbers = {"same_machine": table or {evidence.name: evidence.manifest.endpoint.same_machine}}
    if len((places | set(table.values())) - {None}) > 1:
        here = "another machine than" if False in places else "the machine of"
        return Outcome(
            "doubt",
            f"The server runs on {here} the client, but other candidates differ.",
            numbers,
            "Start all candidates on one machine, or reach all of them over the same network.",
        )
    if False in places:
        text = "The server runs on another machine than the client: every latency includes the network."
        return Outcome("note", text, numbers)
    if None in places:
        return Outcome("note", "Whether client and server share a machine is not known.", numbers)
    return Outcome("ok", "Client and server share a machine: latencies include no network.", numbers)
