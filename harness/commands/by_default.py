"""The engines of a comparison that names none."""

from __future__ import annotations

from collections.abc import Mapping

from harness.adapter import Engine
from harness.commands.list_engines import notes_on
from harness.launch.ways import Here, look_around
from harness.workload.plan import Plan


def by_default(known: Mapping[str, Engine], plan: Plan) -> list[Engine]:
    """Every engine that can be started; one that stands in for another only where it can start and that one cannot."""
    real = [engine for engine in known.values() if not engine.null and not engine.attach_only]
    return [engine for engine in real if not engine.instead_of or _steps_in(engine, known[engine.instead_of], plan)]


def _steps_in(engine: Engine, original: Engine, plan: Plan) -> bool:
    if plan.launch != "compose" and notes_on(original, Here(None, "", "cpu"), "process")[0]:
        return False  # without asking Docker
    here = look_around(plan.device)
    return notes_on(engine, here, plan.launch)[0] and not notes_on(original, here, plan.launch)[0]
