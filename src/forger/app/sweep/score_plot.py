"""Scores over iterations, all jobs in one plot. Owns how it looks, and computes no score.

Nothing here touches pyplot, so that no display and no state of a notebook's own plots is involved.
"""

from __future__ import annotations

import io
import math
import statistics
import textwrap
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from forger.app.sweep.outcome import BAD
from forger.app.sweep.results import Results, Setting, brief
from forger.app.sweep.rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_Style = Literal["-", "--"]
_COLOURS = (
    *("#1b6ca8", "#d95f02", "#2a9134", "#c1121f", "#7b4fb5"),
    *("#8c5a3c", "#d65fa8", "#5c6670", "#a8a000", "#12a5b8"),
)
_STYLES: tuple[_Style, ...] = ("-", "--")
_FAINT = "#c3c9d1"
_LOOKS = len(_COLOURS) * len(_STYLES)  # settings that can be told apart; more are drawn in grey
_LEGEND = 44  # lines
_WIDE = 10  # largest score by smallest, beyond which the axis is logarithmic
_DPI = 110


def draw(results: Results) -> bytes | None:
    """Draws a line per job, or per setting the mean over its seeds with the seeds thin behind it.

    The legend names settings from best to worst. A cross ends the line of a job that failed.

    Returns:
        A PNG; `None` where no job has a score over iterations.
    """
    drawn = [s for s in results.settings if any(_finite(row) for row in s.rows)]
    if not drawn:
        return None
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    words = _legend_words(drawn, results.keys)
    named, lines = len(words), sum(text.count("\n") + 1 for text in words)
    figure = Figure(figsize=(10, max(4.8, 0.8 + 0.21 * lines)), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    handles: list[Line2D] = []
    for index, setting in reversed(list(enumerate(drawn))):  # the best one on top
        colour, style = _look(index, named)
        _draw_setting(axes, setting, colour, style)
        if index < named:
            handles.insert(0, Line2D([], [], color=colour, linestyle=style, linewidth=2))
    if len(drawn) > named:
        handles.append(Line2D([], [], color=_FAINT, linewidth=2))
        words.append(f"{len(drawn) - named} others")
    _dress(axes, results, drawn)
    figure.legend(handles, words, loc="outside right upper", frameon=False, fontsize=9)
    return _png(figure)


def _look(index: int, named: int) -> tuple[str, _Style]:
    if index >= named:
        return _FAINT, "-"
    return _COLOURS[index % len(_COLOURS)], _STYLES[index // len(_COLOURS)]


def _draw_setting(axes: Axes, setting: Setting, colour: str, style: _Style) -> None:
    folds = [row for row in setting.rows if row.outcome.status == "finished" and _finite(row)]
    mean = mean_over_seeds(folds) if len(folds) > 1 else []
    thin: dict[str, Any] = (
        {"linewidth": 0.8, "alpha": 0.45}
        if mean
        else {"linewidth": 0.8 if colour == _FAINT else 1.8}
    )
    for row in setting.rows:
        if points := _finite(row):
            axes.plot(*_axes_of(points), color=colour, linestyle=style, **thin)
            _mark_end(axes, points, row, colour)
    if mean:
        marker = "o" if len(mean) == 1 else None
        axes.plot(*_axes_of(mean), color=colour, linestyle=style, linewidth=2.2, marker=marker)


def _mark_end(axes: Axes, points: Sequence[tuple[int, float]], row: Row, colour: str) -> None:
    """Shows where a failed job ended, and a job of one score at all."""
    if row.outcome.status in BAD:
        axes.plot(*points[-1], marker="x", color=colour, markersize=8, markeredgewidth=2)
    elif len(points) == 1:
        axes.plot(*points[0], marker="o", color=colour, markersize=4)


def mean_over_seeds(rows: Sequence[Row]) -> list[tuple[int, float]]:
    """Averages over seeds, at iterations where each of them has a score."""
    curves = [dict(_finite(row)) for row in rows]
    shared = sorted(set.intersection(*(set(curve) for curve in curves)))
    return [(step, statistics.fmean(curve[step] for curve in curves)) for step in shared]


def _finite(row: Row) -> list[tuple[int, float]]:
    return [(step, score) for step, score in row.curve if math.isfinite(score)]


def _axes_of(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [score for _, score in points]


def _legend_words(settings: Sequence[Setting], keys: Sequence[str]) -> list[str]:
    """Words as many of the settings as there are looks and room for."""
    named: list[str] = []
    room = _LEGEND
    for setting in settings[:_LOOKS]:
        text = brief(setting, keys)
        lines = textwrap.wrap(text, 40, break_on_hyphens=False, max_lines=4, placeholder=" …")
        if setting.best is not None:
            many = f" (n={setting.best.n})" if setting.best.n > 1 else ""
            lines.append(f"{setting.best}{many}")
        room -= len(lines)
        if room < 0:
            break
        named.append("\n".join(lines))
    return named


def _dress(axes: Axes, results: Results, drawn: Sequence[Setting]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    scores = [score for s in drawn for row in s.rows for _, score in _finite(row)]
    if min(scores) > 0 and max(scores) / min(scores) > _WIDE:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("iteration")
    better = "lower" if results.minimise else "higher"
    axes.set_ylabel(f"{results.score} ({better} is better)")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    failed = any(row.outcome.status in BAD and _finite(row) for s in drawn for row in s.rows)
    seeds = any(len(s.rows) > 1 for s in drawn)
    notes = ["legend: best score"]
    notes += ["thick: mean over seeds, thin: each seed"] if seeds else []
    notes += ["x: ended early"] if failed else []
    axes.set_title("; ".join(notes), fontsize=9, color="#6b7280", loc="left")


def _png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    FigureCanvasAgg(figure)
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a value may hold $
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
