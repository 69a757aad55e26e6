"""Pictures of a whole training, drawn at its end: the curves of its metrics, and an animation."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image, ImageDraw

from forger.bounds import PositiveInt, check_fields
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
_WIDE = 20  # largest value by smallest, beyond which an axis is logarithmic
_STRIP = 22  # pixels below each grid, for the iteration

Panels = dict[str, dict[str, list[tuple[int, float]]]]
"""Points (iteration, value) by title of a panel and name of a metric."""


class MetricCurves(Callback):
    """Draws `metrics.csv` as `curves.png` in the run folder at the end of training.

    A panel each for the losses, penalties, D's outputs and gradient norms, and one for each FID,
    coverage and label accuracy. A plot that cannot be written is told in the log, and ends no run.
    """

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the plot, if there are two rows of metrics at least."""
        folder = Path(trainer.default_root_dir)
        panels = panels_of(folder) if trainer.is_global_zero else {}
        if panels:
            _write(folder / "curves.png", lambda: _draw(panels))


@dataclass(eq=False)
class TrainingGif(Callback):
    """Writes `samples/training.gif` at the end of training: the EMA grids, one after the other.

    It takes three grids at least. A GIF that cannot be written is told in the log, and ends no run.

    Args:
        frames: most frames; of more grids, evenly spaced ones are shown, first and last included.
        rate: frames per second.

    Raises:
        ConfigError: `frames` or `rate` is out of range.
    """

    frames: PositiveInt = 60
    rate: PositiveInt = 6

    def __post_init__(self) -> None:
        check_fields(self, "callbacks.gif")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the file."""
        folder = Path(trainer.default_root_dir) / "samples"
        grids = sorted(folder.glob("*_ema.png"))
        if trainer.is_global_zero and len(grids) > 2:
            steps = min(self.frames, len(grids)) - 1
            chosen = [grids[round(i * (len(grids) - 1) / max(steps, 1))] for i in range(steps + 1)]
            _write(folder / "training.gif", lambda: _gif(chosen, 1000 // self.rate))


def _write(path: Path, draw: Callable[[], bytes]) -> None:
    try:
        write_whole(path, draw())
    except OSError as error:
        log.warning("%s cannot be written: %s", path.name, error)


def panels_of(folder: Path) -> Panels:
    """Returns the curves of two points or more of a run."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for step, row in read_rows(folder):
        for name, value in row.items():
            if math.isfinite(value):
                curves.setdefault(name, []).append((step, value))
    panels: Panels = {title: {} for title in _PANELS}
    for name, points in curves.items():
        title = next((t for t, starts in _PANELS.items() if name.startswith(starts)), None)
        if name.startswith("val/") and name.endswith(("fid", "coverage", "label_accuracy")):
            title = name.removeprefix("val/").replace("_", " ")
        if title is not None and len(points) > 1:
            panels.setdefault(title, {})[name] = points
    return {title: found for title, found in panels.items() if found}


def _draw(panels: Panels) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, and used once
    from matplotlib.figure import Figure

    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(5.5 * columns, 2.9 * rows), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for number, (title, curves) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(rows, columns, number)
        for name, points in curves.items():
            axes.plot(*zip(*points, strict=True), linewidth=1.2, label=name.partition("/")[2])
        values = [value for points in curves.values() for _, value in points]
        if min(values) > 0 and max(values) / min(values) > _WIDE:
            axes.set_yscale("log")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("iteration", fontsize=9)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _gif(grids: Sequence[Path], milliseconds: int) -> bytes:
    """Encodes the grids, each with its iteration written below, as a GIF that repeats for ever."""
    frames = []
    for path in grids:
        with Image.open(path, formats=["PNG"]) as grid:
            frame = Image.new(grid.mode, (grid.width, grid.height + _STRIP))
            frame.paste(grid)
            text = f"iteration {int(path.name.partition('_')[0]):,}"
            ImageDraw.Draw(frame).text((4, grid.height + 5), text, fill="white")
            frames.append(frame)
    buffer, options = io.BytesIO(), {"save_all": True, "duration": milliseconds, "loop": 0}
    frames[0].save(buffer, "gif", append_images=frames[1:], **options)
    return buffer.getvalue()
