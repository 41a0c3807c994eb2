"""Places names beside the points of a chart where nothing else is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from harness.report.charts.frame import PAPER


@dataclass(frozen=True, slots=True)
class Named:
    """A drawn point with its error bars (data units) and the name to write beside it."""

    x: float
    y: float
    x_span: tuple[float, float]
    y_span: tuple[float, float]
    name: str
    color: str


Box = tuple[float, float, float, float]  # left, bottom, right, top in points


def name_points(axes: Axes, drawn: Sequence[Named]) -> None:
    """Names each point where no other point, bar or name is yet; in points, once the limits are fixed."""
    per_point = axes.figure.dpi / 72

    def place(x: float, y: float) -> tuple[float, float]:
        left, bottom = axes.transData.transform((x, y)) / per_point
        return float(left), float(bottom)

    taken: list[Box] = []
    for one in drawn:
        (x, y), low = place(one.x, one.y), place(one.x_span[0], one.y_span[0])
        high = place(one.x_span[1], one.y_span[1])
        taken += [(x - 4, y - 4, x + 4, y + 4), (low[0], y - 3, high[0], y + 3), (x - 3, low[1], x + 3, high[1])]
    for one in drawn:
        x, y = place(one.x, one.y)
        boxes = list(_around(x, y, 6.2 * len(one.name), 9.0))
        box = min(boxes, key=lambda b: (sum(_overlap(b, other) for other in taken), boxes.index(b)))
        taken.append(box)
        text = axes.annotate(
            one.name,
            (one.x, one.y),
            xytext=((box[0] + box[2]) / 2 - x, box[1] - y),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=9,
            color=one.color,
            fontweight="bold",
            annotation_clip=False,
        )
        text.set_path_effects([withStroke(linewidth=2.5, foreground=PAPER)])


def _around(x: float, y: float, width: float, height: float) -> Iterator[Box]:
    """Possible places for a name of this size, the nearest to the point first."""
    for gap in (6.0, 14.0, 22.0, 30.0):
        for dx, dy in ((0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1), (1, 0), (-1, 0)):
            left = x - width / 2 + dx * (width / 2 + gap)
            bottom = y - height / 2 + dy * (height / 2 + gap * (1 if dx == 0 else 0.6))
            yield left, bottom, left + width, bottom + height


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
