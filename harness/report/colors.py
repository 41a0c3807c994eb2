"""A colour for each candidate: its engine's, or a shade of it for further candidates of the same engine."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

from harness.judge.comparison import Comparison

# Lightness (L* of CIELAB) that is readable on white paper, and the one that the darkest gets on the dark page.
DARKEST, LIGHTEST = 32.0, 70.0
DARKEST_ON_DARK = 52.0


def colors(comparison: Comparison) -> dict[str, str]:
    """Candidate -> #rrggbb. The first candidate of an engine has the engine's colour; each next one has the lightness
    furthest from those before it, so that they can be told apart without seeing colours."""
    found: dict[str, str] = {}
    used: dict[tuple[str, str], list[float]] = {}
    for one in comparison.candidates:
        color = one.color.lower()
        levels = used.setdefault((one.engine, color), [])
        levels.append(_furthest(levels) if levels else lightness(color))
        found[one.name] = shade(color, levels[-1]) if len(levels) > 1 else color
    return found


def _furthest(used: Sequence[float]) -> float:
    steps = 20
    levels = [DARKEST + (LIGHTEST - DARKEST) * i / steps for i in range(steps + 1)]
    return max(levels, key=lambda level: min(abs(level - other) for other in used))


def on_dark(color: str) -> str:
    """The same colour for the dark page: lighter, in the same order of lightness."""
    level = max(DARKEST, lightness(color))
    return shade(color, DARKEST_ON_DARK + (100 - DARKEST_ON_DARK) * (level - DARKEST) / (100 - DARKEST))


def shade(color: str, level: float) -> str:
    """A colour of the same hue with this L*."""
    hue, _, saturation = colorsys.rgb_to_hls(*_channels(color))
    low, high = 0.0, 1.0
    for _ in range(24):  # HLS lightness is not L*, but grows with it
        middle = (low + high) / 2
        if lightness(_hex(*colorsys.hls_to_rgb(hue, middle, saturation))) < level:
            low = middle
        else:
            high = middle
    return _hex(*colorsys.hls_to_rgb(hue, low, saturation))


def lightness(color: str) -> float:
    """L* of CIELAB, 0 to 100: the grey level of a colour."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in _channels(color)]
    y = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y


def _channels(color: str) -> tuple[float, float, float]:
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def _hex(*channels: float) -> str:
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in channels)
