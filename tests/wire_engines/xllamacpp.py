"""llama.cpp's server in the wheel xllamacpp 2026.10.11549, recorded there: that of tests/wire_engines/llamacpp.py but
for its build, which it does not know."""

from __future__ import annotations

from dataclasses import replace

from tests.wire_engines.dialect import Page, Plan, Totals
from tests.wire_engines.llamacpp import LlamaCpp


class InAWheel(LlamaCpp):
    commit = "unknown"

    def pages(self, plan: Plan, totals: Totals) -> dict[str, Page]:
        return super().pages(replace(plan, version="b0"), totals)


DIALECT = InAWheel()
