"""Draws a sweep: every job's final samples on one sheet, and the scores over iterations."""

from __future__ import annotations

import io
import logging
import math
import textwrap
import warnings
from itertools import chain, repeat

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image, ImageOps

from forger.app.sweep.folder import BAD, Outcome, label
from forger.app.sweep.report import Results, Row

log = logging.getLogger(__name__)

_LIMIT = 100  # jobs on a sheet
_DPI, _GAP, _LINE, _LETTER = 100, 14, 16, 7.5  # pixels; of a label's lines and letters
_INK, _FAINT, _RED, _GREY = "#111827", "#6b7280", "#b91c1c", "#d9dce1"
_COLOURS = ["#1b6ca8", "#d95f02", "#2a9134", "#c1121f", "#7b4fb5", "#8c5a3c", "#d65fa8", "#12a5b8"]
"""Of the best settings; others are grey."""
_WIDE = 10  # largest score by smallest, beyond which the axis is logarithmic


def contact_sheet(results: Results) -> bytes | None:
    """Draws each job's `samples/last.png`, or a grey tile, settings from best to worst, as a PNG.

    Of many jobs the first hundred are shown. `None`: no job has samples.
    """
    rows = [row for setting in results.settings for row in setting.rows][:_LIMIT]
    pixels = 256 if len(rows) <= 24 else 176  # of a tile
    grids = [read_samples(row.outcome, pixels) for row in rows]
    if not any(grids):
        return None
    columns = math.ceil(math.sqrt(1.2 * len(rows)))  # a little wider than high
    labels = [_label(row, results.score, int(pixels / _LETTER)) for row in rows]
    above = _LINE * max(text.count("\n") + 1 for text in labels)
    width = _GAP + (pixels + _GAP) * columns
    height = _GAP + (above + pixels + 2 * _GAP) * math.ceil(len(rows) / columns)
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    for index, (row, text, grid) in enumerate(zip(rows, labels, grids, strict=True)):
        x = _GAP + (pixels + _GAP) * (index % columns)
        y = (above + pixels + 2 * _GAP) * (index // columns)
        font = {"family": "monospace", "size": 9, "va": "top"}
        colour = _RED if row.outcome.status in BAD else _INK
        figure.text(x / width, 1 - y / height, text, font, color=colour)
        tile = grid or Image.new("RGB", (pixels, pixels), _GREY)
        figure.figimage(np.asarray(tile), x, height - y - above - tile.height)
    return _png(figure)


def _label(row: Row, score: str | None, letters: int) -> str:
    """Returns a few lines: number and score, then what differs from other jobs."""
    end = "" if row.last is None else f"{score} {row.last:.4g}"
    end = end if row.outcome.status == "finished" else row.outcome.status
    texts = (f"#{row.outcome.number}  {end}", label(row.settings))
    lines = [textwrap.wrap(text, letters, max_lines=5, placeholder=" …") for text in texts]
    return "\n".join(chain(*lines))


def read_samples(outcome: Outcome, pixels: int) -> Image.Image | None:
    """Returns a job's last grid, RGB and `pixels` long; `None` of a failed or a damaged one."""
    path = outcome.folder / "samples" / "last.png"
    if outcome.status in ("failed", "missing") or not path.is_file():
        return None
    try:
        with Image.open(path, formats=["PNG"]) as file:
            return ImageOps.contain(file.convert("RGB"), (pixels, pixels), Image.Resampling.BOX)
    except Exception as error:  # PIL raises many kinds for a damaged file
        log.warning("%s: damaged: %s", path, error)
        return None


def score_plot(results: Results) -> bytes | None:
    """Draws the score of each job over iterations, in the colour of its setting, as a PNG.

    The legend names settings from best to worst. `None`: no job has a score over iterations.
    """
    drawn = [s for s in results.settings if any(row.curve for row in s.rows)]
    scores = [score for row in results.rows for _, score in row.curve]
    if not scores:
        return None
    figure = Figure(figsize=(10, 6), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for setting, colour in zip(drawn, chain(_COLOURS, repeat(_GREY)), strict=False):
        for row in [row for row in setting.rows if row.curve]:
            axes.plot(*np.array(row.curve).T, color=colour, marker=".", linewidth=1.5)
            if row.outcome.status in BAD:
                axes.plot(*row.curve[-1], color=colour, marker="x", ms=8, mew=2)
        if colour != _GREY:
            named = textwrap.fill(setting.label, 40, max_lines=2)
            axes.plot([], color=colour, linewidth=2, label=f"{named}\n{setting.mean}")
    if min(scores) > 0 and max(scores) / min(scores) > _WIDE:
        axes.set_yscale("log")
    axes.set(xlabel="iteration", ylabel=f"{results.score} ({results.better} is better)")
    axes.set_title("legend: best score; x: ended early", fontsize=9, color=_FAINT, loc="left")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    """Encodes a figure without pyplot, and so without a display or a notebook's plots."""
    FigureCanvasAgg(figure)
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a value may hold $
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
