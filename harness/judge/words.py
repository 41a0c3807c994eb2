"""Numbers, intervals and lists in words, for answers and reports."""

from __future__ import annotations

from collections.abc import Sequence

MISSING = "–"


def number(value: float | None) -> str:
    """Three significant digits, thousands in full: 1,234 · 123 · 12.3 · 1.23 · 0.0123."""
    if value is None:
        return MISSING
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 99.95:
        return f"{value:,.0f}"
    if size >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.9995 else f"{value:.3g}"


def milliseconds(seconds: float | None) -> str:
    """Seconds shown in milliseconds, without the unit."""
    return number(None if seconds is None else seconds * 1e3)


def percent(share: float) -> str:
    """`3 %`; `0.4 %` where that is less than one."""
    return f"{share * 100:.3g} %"


def value_words(value: float | None, unit: str) -> str:
    """`57.4 ms`, `332 tok/s`, `2.1 GB`, `99.8 %`: a metric's value with the unit that readers know."""
    if value is None:
        return MISSING
    if unit == "s":
        return f"{milliseconds(value)} ms"
    if unit == "fraction":
        return f"{value * 100:.1f} %"
    if unit == "bytes":
        return f"{number(value / 1e9)} GB"
    return f"{number(value)} {'tok/s' if unit == 'tokens/s' else unit}"


def interval_words(ratio: float | None, low: float | None, high: float | None) -> str:
    """`1.23 [1.10, 1.38]`; without brackets if there is no interval."""
    if ratio is None:
        return MISSING
    if low is None or high is None:
        return _factor(ratio, 2)
    # A bound rounded to 1.00 next to "faster" or "slower" would look like a contradiction.
    digits = 3 if "1.00" in (f"{low:.2f}", f"{high:.2f}") else 2
    return f"{_factor(ratio, digits)} [{_factor(low, digits)}, {_factor(high, digits)}]"


def listed(parts: Sequence[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return f" {last} ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def counted(count: int, what: str, several: str = "") -> str:
    """`1 round`, `3 rounds`."""
    return f"{count:,} {what if count == 1 else several or what + 's'}"


def minutes(seconds: float) -> str:
    """`40 s`, `12 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _factor(value: float, digits: int) -> str:
    """`1.23`; `1,175` and `>9,999` of what two rounds alone can give."""
    if value >= 10_000:
        return ">9,999"
    return f"{value:,.0f}" if value >= 100 else f"{value:.{digits}f}"
