"""Service level objectives: what an answer must meet to count as good, and the presets that users name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import HarnessError, unknown
from harness.workload.loads import check_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """Limits of one request, in seconds; None: no limit. A request is good if it meets all of them. A load is held
    if at least `share` of the requests issued are good."""

    name: str = ""
    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None
    share: float = 0.99

    @property
    def words(self) -> str:
        """`TTFT 2,000 ms and TPOT 100 ms`."""
        limits = {"TTFT": self.ttft_s, "TPOT": self.tpot_s, "E2E latency": self.e2e_s}
        return " and ".join(f"{name} {limit * 1e3:,.4g} ms" for name, limit in limits.items() if limit is not None)


def _preset(name: str, ttft_ms: float, tpot_ms: float) -> Slo:
    return Slo(name=name, ttft_s=ttft_ms / 1e3, tpot_s=tpot_ms / 1e3)


# MLPerf Inference v5.1: limits of the p99 of TTFT and TPOT in the Server and Interactive scenarios.
PRESETS: Mapping[str, Slo] = {
    slo.name: slo
    for slo in (
        _preset("llama3.1-8b-server", 2000, 100),
        _preset("llama3.1-8b-interactive", 500, 30),
        _preset("llama2-70b-server", 2000, 200),
        _preset("llama2-70b-interactive", 450, 40),
        _preset("llama3.1-405b-server", 6000, 175),
        _preset("llama3.1-405b-interactive", 4500, 80),
        _preset("mixtral-8x7b-server", 2000, 200),
        _preset("deepseek-r1-server", 2000, 80),
        _preset("deepseek-r1-interactive", 1500, 15),
        _preset("gpt-oss-120b-server", 3000, 80),
        _preset("gpt-oss-120b-interactive", 2000, 15),
    )
}


def slo_of(given: str | Slo, where: str) -> Slo:
    """The objectives that a preset's name or a table gives. Raises HarnessError for an unknown name or bad limits."""
    if isinstance(given, str):
        if given not in PRESETS:
            raise unknown("SLO preset", given, PRESETS, where)
        return PRESETS[given]
    limits = {"ttft_s": given.ttft_s, "tpot_s": given.tpot_s, "e2e_s": given.e2e_s}
    for name, limit in limits.items():
        if limit is not None:
            check_positive(f"slo.{name}", limit, where)
    check_positive("slo.share", given.share, where, 1.0)
    if all(limit is None for limit in limits.values()):
        raise HarnessError(f"{where}: slo sets no limit; give ttft_s, tpot_s or e2e_s, or a preset's name.")
    return given
