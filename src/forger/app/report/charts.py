"""Curves of a run's metrics, drawn in plain Python as what an SVG needs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from forger.app.run.tables import MEANINGS
from forger.score_names import RELATIVE, base_of

WIDTH, HEIGHT = 460, 210  # of the drawing; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 54, 12, 10, 26  # margins
COLOURS = 8  # further curves are grey
_MOST_POINTS, _MOST_CHARTS = 300, 60
_LARGEST = 1e30  # beyond it a value counts as not finite
_WIDE = 20  # largest value by smallest, beyond which an axis is logarithmic

Points = list[tuple[int, float]]  # (iteration, value)

# Title of a chart, and the metrics of training in it.
_OF_TRAINING = {
    "losses": ("loss_g", "loss_d"),
    "D(x) of real and D(G(z)) of generated images": ("d_real", "d_fake"),
    "D's confusion matrix: real called real (tpr), fake called fake (tnr)": (
        *("tpr", "tnr", "accuracy"),
        *(f"{RELATIVE}{rate}" for rate in ("tpr", "tnr", "accuracy")),
    ),
    "gradient norms": ("grad_norm_g", "grad_norm_d"),
    "learning rates": ("lr_g", "lr_d"),
}
_MIRRORED = ("fnr", "fpr", f"{RELATIVE}fnr", f"{RELATIVE}fpr", "images_seen")  # say nothing more
_OF_FEATURES = ("precision", "recall", "density", "coverage")


@dataclass(frozen=True)
class Line:
    """One curve."""

    name: str
    colour: int
    path: str  # of an SVG
    last: str
    lost_at: int | None  # the first iteration whose value was not finite


@dataclass(frozen=True)
class Chart:
    """Curves over iterations on one pair of axes."""

    title: str
    lines: list[Line]
    x_ticks: list[tuple[float, str]]  # place and text
    y_ticks: list[tuple[float, str]]


def read_curves(content: bytes) -> tuple[dict[str, Points], int]:
    """Returns the metrics of a `metrics.csv` by name, and how many rows cannot be read."""
    curves: dict[str, Points] = {}
    damaged = 0
    text = content[: content.rfind(b"\n") + 1].replace(b"\0", b"").decode(errors="replace")
    for row in csv.DictReader(io.StringIO(text, newline="")):
        try:
            step = int(str(row.pop("step", ""))[:15])
            values = {name: float(cell) for name, cell in row.items() if cell}
        except (TypeError, ValueError):
            damaged += 1
            continue
        for name, value in values.items():
            curves.setdefault(name, []).append((step, value))
    return curves, damaged


def charts_of(curves: Mapping[str, Points]) -> list[Chart]:
    """Returns the charts of one run: training first, then scores."""
    panels: dict[str, dict[str, Points]] = {title: {} for title in _OF_TRAINING}
    for column, points in curves.items():
        group, _, name = column.partition("/")
        if (title := _title(group, name)) is not None:
            panels.setdefault(title, {})[name] = points
    drawn = (draw(title, panel) for title, panel in panels.items())
    return [chart for chart in drawn if chart is not None][:_MOST_CHARTS]


def _title(group: str, name: str) -> str | None:
    if group == "train" and name not in _MIRRORED:
        found = (title for title, names in _OF_TRAINING.items() if name in names)
        return next(found, "penalties, weighted" if name.startswith("penalty_") else name)
    if group != "val" or (base := base_of(name)) not in MEANINGS or name.startswith("d_gap"):
        return None
    if name.startswith("d_"):
        return "D on held-out real and on generated images"
    return ", ".join(_OF_FEATURES) if base in _OF_FEATURES else name.replace("_", " ")


def draw(title: str, curves: Mapping[str, Points], most: int = _MOST_POINTS) -> Chart | None:
    """Draws curves of two finite points or more; `None` where there is none."""
    finite = {name: [p for p in points if abs(p[1]) < _LARGEST] for name, points in curves.items()}
    shown = [point for points in finite.values() if len(points) > 1 for point in points]
    if not shown:
        return None
    x = _Axis([0, *(step for step, _ in shown)], LEFT, WIDTH - RIGHT, logs=False)
    y = _Axis([value for _, value in shown], HEIGHT - BOTTOM, TOP, logs=True)
    lines = []
    for number, (name, points) in enumerate(finite.items()):
        if len(points) > 1:
            corners = (f"{x.place(step):.1f},{y.place(v):.1f}" for step, v in _thin(points, most))
            lost = (step for step, value in curves[name] if not abs(value) < _LARGEST)
            path = f"M{' L'.join(corners)}"
            colour = min(number, COLOURS)
            lines.append(Line(name, colour, path, f"{points[-1][1]:.4g}", next(lost, None)))
    x_ticks = [(place, f"{step:,.0f}") for place, step in x.ticks() if step == round(step)]
    return Chart(title, lines, x_ticks, [(place, f"{value:.10g}") for place, value in y.ticks()])


def _thin(points: Points, most: int) -> Points:
    """Leaves the lowest and the highest of each few points, so that spikes stay."""
    size = math.ceil(2 * len(points) / most)
    if size <= 2:
        return points
    kept: Points = []
    for start in range(0, len(points), size):
        few = points[start : start + size]
        ends = {min(few, key=lambda p: p[1]), max(few, key=lambda p: p[1])}
        kept += sorted(ends)
    return [*kept, points[-1]]


class _Axis:
    """Maps values to places from `begin` to `end`."""

    def __init__(self, values: Iterable[float], begin: float, end: float, logs: bool) -> None:
        values = list(values)
        low, high = min(values), max(values)
        self.is_log = logs and low > 0 and high / low > _WIDE
        if self.is_log:
            low, high = math.log10(low), math.log10(high)
        margin = (0.05 * (high - low) if logs else 0) or (0 if high > low else abs(high) or 1)
        self.low, self.high = low - margin, high + margin
        self.begin, self.end = begin, end

    def place(self, value: float) -> float:
        share = ((math.log10(value) if self.is_log else value) - self.low) / (self.high - self.low)
        return self.begin + share * (self.end - self.begin)

    def ticks(self) -> list[tuple[float, float]]:
        """Returns places with their values: 1, 2 or 5 times a power of ten apart."""
        if self.is_log:
            tens, factors = range(math.ceil(self.low), math.floor(self.high) + 1), [1]
            if len(tens) < 3:
                tens, factors = range(tens.start - 1, tens.stop + 1), [1, 2, 5]
            values = [m * 10.0**ten for ten in tens[:: math.ceil(len(tens) / 6)] for m in factors]
            inside = [v for v in values if self.low <= math.log10(v) <= self.high]
        else:
            ten = math.floor(math.log10((self.high - self.low) / 4))
            factor = next(m for m in (1, 2, 5, 10) if m * 10.0**ten * 5 >= self.high - self.low)
            step = factor * 10.0**ten
            first, last = math.ceil(self.low / step), math.floor(self.high / step)
            inside = [round(step * number, -ten) for number in range(first, last + 1)]
        return [(round(self.place(value), 1), value) for value in inside]
