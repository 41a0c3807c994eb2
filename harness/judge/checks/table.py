"""Every check once: its code, title, help and function, in the order of the reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.judge.checks.answers import answers
from harness.judge.checks.cache import prefix_cache
from harness.judge.checks.client import client_lag_share, cpu_contention, network
from harness.judge.checks.config import config_parity, gpus
from harness.judge.checks.drift import drift
from harness.judge.checks.evidence import Check, Evidence, Outcome
from harness.judge.checks.kernels import own_kernels
from harness.judge.checks.lengths import length_parity
from harness.judge.checks.little import little
from harness.judge.checks.offered import rate
from harness.judge.checks.plausible import plausible
from harness.judge.checks.precision import precision
from harness.judge.checks.preemption import preemption
from harness.judge.checks.prompts import prompt_parity
from harness.judge.checks.requests import error_rate, token_count
from harness.judge.checks.same import same_engine
from harness.judge.checks.stall import stall
from harness.judge.checks.steady import steady_state
from harness.judge.checks.streamed import streamed
from harness.judge.checks.throttle import throttle
from harness.judge.checks.timeline import timeline
from harness.judge.checks.warmup import warmup


@dataclass(frozen=True, slots=True)
class Rule:
    """One check. `of` returns None if it does not apply to a cell."""

    code: str
    title: str
    help: str  # one sentence: which number would be wrong
    of: Callable[[Evidence], Outcome | None]
    needs_peers: bool = False  # other candidates at the same load
    needs_rounds: bool = False  # does not apply to a single run

    def judge(self, evidence: Evidence) -> Check | None:
        """The verdict on one cell; None if the check does not apply."""
        if self.needs_peers and evidence.peers is None:
            return None
        found = self.of(evidence)
        return None if found is None else Check(self.code, found.verdict, found.numbers, found.message, found.advice)


RULES: tuple[Rule, ...] = (
    Rule(
        "ERROR_RATE",
        "Failed requests",
        "Latencies cover successful requests only: an engine that drops slow ones would look fast.",
        error_rate,
    ),
    Rule(
        "TOKEN_COUNT",
        "Token counts",
        "Throughput counts tokens: those received and reported must be the same.",
        token_count,
    ),
    Rule(
        "PROMPT_PARITY",
        "Prompts as sent",
        "If prompt tokens are added or cut, TTFT is that of another prompt length.",
        prompt_parity,
    ),
    Rule(
        "PREFIX_CACHE",
        "Prefix cache",
        "Prompt tokens from a cache need no prefill, so TTFT is too low.",
        prefix_cache,
    ),
    Rule(
        "PLAUSIBLE",
        "What the machine allows",
        "No engine is faster than memory and arithmetic allow: such a number is a fault of the measurement.",
        plausible,
    ),
    Rule(
        "CLIENT_LAG",
        "The client's own lag",
        "Time that the client adds is not the engine's.",
        client_lag_share,
    ),
    Rule(
        "RATE",
        "Sent when due",
        "A late send lowers the load just when the engine is slow.",
        rate,
    ),
    Rule(
        "LITTLE",
        "Requests in flight",
        "Rate times latency must equal the requests in flight, by the load and by the engine's own gauges.",
        little,
    ),
    Rule(
        "TIMELINE",
        "Possible times",
        "A first token before its send, or an end before the last token, makes every latency wrong.",
        timeline,
    ),
    Rule(
        "STREAMED",
        "Streamed as generated",
        "If an answer is held back and sent in one piece, TTFT is that of the whole answer and TPOT is not known.",
        streamed,
    ),
    Rule(
        "WARMUP",
        "Warm from the start",
        "If the first requests are slower, the numbers depend on how many follow.",
        warmup,
    ),
    Rule(
        "STEADY_STATE",
        "One steady state",
        "The mean of a run that changes depends on its length; slots in lock-step measure their own queue.",
        steady_state,
    ),
    Rule(
        "STALL",
        "No standstill",
        "A stop of some seconds is in the throughput of one round, and its p99 hides it.",
        stall,
    ),
    Rule(
        "PREEMPTION",
        "Not preempted",
        "A preempted request is computed twice.",
        preemption,
    ),
    Rule(
        "DRIFT",
        "No drift over rounds",
        "If throughput rises or falls from round to round, its mean describes none of them.",
        drift,
        needs_rounds=True,
    ),
    Rule(
        "SAME_ENGINE",
        "One engine in all rounds",
        "A mean over two versions describes neither.",
        same_engine,
    ),
    Rule(
        "OWN_KERNELS",
        "Its own kernels",
        "On stand-ins for its kernels, an engine's latency and throughput are those of the stand-ins.",
        own_kernels,
    ),
    Rule(
        "CPU_CONTENTION",
        "Shared cores",
        "A client that takes CPU time from the engine slows what it measures.",
        cpu_contention,
    ),
    Rule(
        "THROTTLE",
        "GPU at its own clocks",
        "A GPU that is slowed down by heat gives the numbers of its cooling.",
        throttle,
    ),
    Rule(
        "NETWORK",
        "Network",
        "Latencies of only some candidates would include a network.",
        network,
    ),
    Rule(
        "LENGTH_PARITY",
        "Lengths as asked for",
        "Throughput at other answer lengths is another load.",
        length_parity,
    ),
    Rule(
        "CONFIG_PARITY",
        "Same settings",
        "A different batch size or context could explain the difference instead of the engine.",
        config_parity,
    ),
    Rule(
        "PRECISION",
        "Same precision",
        "With half the bytes per weight, decoding is nearly twice as fast.",
        precision,
        needs_peers=True,
    ),
    Rule(
        "GPUS",
        "Same number of GPUs",
        "Twice the GPUs is different hardware.",
        gpus,
        needs_peers=True,
    ),
    Rule(
        "ANSWERS",
        "Same answers",
        "Different answers point to other weights, another chat template or another precision.",
        answers,
        needs_peers=True,
    ),
)


def judge(evidence: Evidence, rounds: bool = True) -> list[Check]:
    """Runs every check that applies; without `rounds`, only those that apply to a single run."""
    wanted = [rule for rule in RULES if rounds or not rule.needs_rounds]
    return [check for rule in wanted if (check := rule.judge(evidence)) is not None]
