"""A plot of a run's metrics over its iterations."""

from __future__ import annotations

import io
import logging
import math
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from forger.loggers.metrics_csv import read_rows
from forger.whole_files import write_whole

log = logging.getLogger(__name__)

# Title of a panel, and how the names of its metrics begin.
_PANELS = {
    "losses": ("train/loss_",),
    "penalties, weighted": ("train/penalty_",),
    "discriminator on real and on generated images": ("train/d_real", "train/d_fake"),
    "gradient norms": ("train/grad_norm_",),
}
_COLOURS = ("#1b6ca8", "#d95f02", "#2a9134", "#7b4fb5")
_WIDE = 20  # largest value by smallest, beyond which an axis is logarithmic

Points = list[tuple[int, float]]


class MetricCurves(Callback):
    """Draws `metrics.csv` as `curves.png` in the run folder at the end of training.

    A panel each for the losses, penalties, D's outputs and gradient norms, and one for each FID and
    coverage. A plot that cannot be written is told in the log, and ends no run.
    """

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the plot, if there are two rows of metrics at least."""
        folder = Path(trainer.default_root_dir)
        panels = panels_of(folder) if trainer.is_global_zero else {}
        if not panels:
            return
        try:
            write_whole(folder / "curves.png", _draw(panels))
        except OSError as error:
            log.warning("curves.png cannot be written: %s", error)


def panels_of(folder: Path) -> dict[str, dict[str, Points]]:
    """Returns the curves of two points or more of a run, by title of their panel and name."""
    curves: dict[str, Points] = {}
    for step, row in read_rows(folder):
        for name, value in row.items():
            if math.isfinite(value):
                curves.setdefault(name, []).append((step, value))
    panels: dict[str, dict[str, Points]] = {title: {} for title in _PANELS}
    for name, points in curves.items():
        title = next((t for t, starts in _PANELS.items() if name.startswith(starts)), None)
        if name.startswith("val/") and name.endswith(("fid", "coverage")):
            title = name.removeprefix("val/").replace("_", " ")
        if title is not None and len(points) > 1:
            panels.setdefault(title, {})[name] = points
    return {title: found for title, found in panels.items() if found}


def _draw(panels: dict[str, dict[str, Points]]) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, and used once
    from matplotlib.figure import Figure

    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(5.5 * columns, 2.9 * rows), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for number, (title, curves) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(rows, columns, number)
        for colour, (name, points) in zip(_COLOURS, curves.items(), strict=False):
            label = name.partition("/")[2]
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.2, label=label)
        values = [value for points in curves.values() for _, value in points]
        if min(values) > 0 and max(values) / min(values) > _WIDE:
            axes.set_yscale("log")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("iteration", fontsize=9)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
