"""Every check once: its code, title, help and function. Their order is that of the reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.judge.checks.answers import answers, length_parity
from harness.judge.checks.cache import prefix_cache
from harness.judge.checks.client import client_lag_share, cpu_contention, network
from harness.judge.checks.config import config_parity, gpus
from harness.judge.checks.evidence import Check, Evidence, Outcome
from harness.judge.checks.offered import little, rate
from harness.judge.checks.precision import precision
from harness.judge.checks.requests import error_rate, prompt_parity, token_count
from harness.judge.checks.rounds import drift, same_engine


@dataclass(frozen=True, slots=True)
class Rule:
    """One check. `of` returns None if it does not apply to a cell."""

    code: str
    title: str
    help: str  # one sentence: what would be wrong without it
    of: Callable[[Evidence], Outcome | None]
    needs_peers: bool = False  # other candidates at the same load
    needs_rounds: bool = False  # says nothing of a run by itself

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
        "Latency covers only what came back: dropping slow requests would look fast.",
        error_rate,
    ),
    Rule(
        "TOKEN_COUNT",
        "Token counts",
        "Throughput counts tokens: seen, reported and asked must be the same.",
        token_count,
    ),
    Rule(
        "PROMPT_PARITY", "Prompts as sent", "Added or cut prompt tokens are other work than was asked.", prompt_parity
    ),
    Rule(
        "PREFIX_CACHE",
        "Prefix cache",
        "A prompt answered from a cache costs no prefill.",
        prefix_cache,
    ),
    Rule(
        "CLIENT_LAG",
        "The client's own lag",
        "What the client adds is no doing of the engine.",
        client_lag_share,
    ),
    Rule(
        "RATE",
        "Sent when due",
        "A late send lightens the load just when the engine is slow.",
        rate,
    ),
    Rule(
        "LITTLE",
        "Load held",
        "Rate times latency must give the requests in flight that were asked for.",
        little,
    ),
    Rule(
        "DRIFT",
        "Rounds agree",
        "Where rounds disagree, no mean stands for them.",
        drift,
        needs_rounds=True,
    ),
    Rule(
        "SAME_ENGINE",
        "One engine in all rounds",
        "A mean over two versions stands for neither.",
        same_engine,
    ),
    Rule(
        "CPU_CONTENTION",
        "Shared cores",
        "A client that takes the engine's cores slows what it measures.",
        cpu_contention,
    ),
    Rule(
        "NETWORK",
        "Way to the server",
        "A network is in the latencies of one candidate only.",
        network,
    ),
    Rule(
        "LENGTH_PARITY",
        "Same lengths",
        "Throughput at other answer lengths is another load.",
        length_parity,
        needs_peers=True,
    ),
    Rule(
        "CONFIG_PARITY",
        "Same settings",
        "Another batch size or context explains a difference better than the engine.",
        config_parity,
    ),
    Rule(
        "PRECISION",
        "Same precision",
        "Half the bytes per weight is nearly twice the decode speed.",
        precision,
        needs_peers=True,
    ),
    Rule(
        "GPUS",
        "As many GPUs",
        "Twice the GPUs is another machine.",
        gpus,
        needs_peers=True,
    ),
    Rule(
        "ANSWERS",
        "Same answers",
        "Other answers point to other weights, another template or another precision.",
        answers,
        needs_peers=True,
    ),
)


def judge(evidence: Evidence, rounds: bool = True) -> list[Check]:
    """Every check that applies; without `rounds` only those of a run by itself."""
    wanted = [rule for rule in RULES if rounds or not rule.needs_rounds]
    return [check for rule in wanted if (check := rule.judge(evidence)) is not None]
