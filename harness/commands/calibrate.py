"""`harness calibrate`: the client's own floor on this machine, at the loads of a comparison."""

from __future__ import annotations

import datetime
from pathlib import Path

from rich.table import Table

from harness.commands.show import terminal
from harness.driver.connection import allow_connections
from harness.errors import DONE, HarnessError
from harness.nullengine.calibrate import calibrate
from harness.progress import Display
from harness.records.calibration import CALIBRATION, Calibration
from harness.records.stored import write_json
from harness.workload.plan import PRESETS, read_plan


def calibrate_here(file: Path | None, workers: int | None, out: Path | None) -> int:
    """Measures it, prints it and, with `out`, writes it there."""
    plan = read_plan(file or PRESETS / "default.toml")
    console = terminal()
    allow_connections()
    with Display(console) as display:
        measured_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        found = calibrate(plan.workload, workers or plan.workers, measured_at, display.say)
    console.print(floor_table(found))
    for line in disturbed_lines(found):
        console.print(line, soft_wrap=True)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / CALIBRATION, found)
        console.print(f"data    {out / CALIBRATION}", soft_wrap=True)
    if failed := [floor.load for floor in found.floors if floor.failed]:
        raise HarnessError(f"requests failed at {', '.join(failed)}: this machine cannot carry that load.")
    return DONE


def disturbed_lines(found: Calibration) -> list[str]:
    """One line for each repeat that was left out."""
    return [f"left out at {floor.load}: {why}" for floor in found.floors for why in floor.disturbed]


def floor_table(found: Calibration) -> Table:
    """One row for each load and pace."""
    table = Table(
        title="The client's own floor on this machine, in microseconds",
        caption="pace: milliseconds between the null server's tokens; medians of up to "
        f"{max((floor.repeats for floor in found.floors), default=0)} repeats",
        title_justify="left",
        caption_justify="left",
        box=None,
    )
    for name in (
        "load",
        "pace",
        "TTFT error p50",
        "p99",
        "TPOT error p99",
        "lag p99",
        "late p99",
        "tokens/s",
        "CPU/token",
    ):
        table.add_column(name, justify="left" if name == "load" else "right")
    for floor in found.floors:
        times = (floor.ttft_error_p50_s, floor.ttft_error_p99_s, floor.tpot_error_p99_s, floor.lag_p99_s)
        table.add_row(
            floor.load,
            "" if floor.interval_s is None else f"{floor.interval_s * 1e3:g}",
            *map(_us, (*times, floor.dispatch_delay_p99_s)),
            f"{floor.tokens_per_s:.0f}",
            _us(floor.client_cpu_s_per_token),
        )
    return table


def _us(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e6:,.0f}" if seconds > 1e-5 else f"{seconds * 1e6:.1f}"
