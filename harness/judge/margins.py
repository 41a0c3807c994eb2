"""How small a difference may be and still be called one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from harness.judge.stats import Estimate
from harness.records.calibration import Floor

MARGIN = 0.03  # a smaller difference is never called one


def margin_of(metric: str, sides: Sequence[Mapping[str, Estimate]], floor: Floor | None) -> float:
    """The margin of a ratio: 3 %, or the client's own error at this load as a share of the metric, whichever is larger.
    `sides`: the metrics of both cells; the faster one decides, of whose time the error is the larger share."""
    if floor is None:
        return MARGIN
    shares = [share for metrics in sides for share in (_client_share(metric, metrics, floor),) if share is not None]
    return max(MARGIN, *shares) if shares else MARGIN


def _client_share(metric: str, metrics: Mapping[str, Estimate], floor: Floor) -> float | None:
    """For rates and E2E latency, which are mostly sums of token times, TPOT's share."""
    error, of = _ERRORS.get(metric, (_tpot_error, "tpot_p50"))
    error_s, whole = error(floor), metrics[of].mean
    return abs(error_s) / whole if error_s is not None and whole else None


def _tpot_error(floor: Floor) -> float | None:
    return floor.tpot_error_p99_s if floor.tpot_error_p50_s is None else floor.tpot_error_p50_s


_ERRORS: dict[str, tuple[Callable[[Floor], float | None], str]] = {
    "ttft_p50": (lambda floor: floor.ttft_error_p50_s, "ttft_p50"),
    "ttft_p99": (lambda floor: floor.ttft_error_p99_s, "ttft_p99"),
}
