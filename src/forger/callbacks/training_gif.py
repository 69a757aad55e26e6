"""An animation of a training, made of its sample grids."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image, ImageDraw

from forger.bounds import PositiveInt, check_fields
from forger.whole_files import write_whole

log = logging.getLogger(__name__)

_STRIP = 22  # pixels below each grid, for the iteration
_PAUSE = 1500  # milliseconds on the last frame


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
        if not trainer.is_global_zero or len(grids) < 3:
            return
        steps = min(self.frames, len(grids)) - 1
        chosen = [grids[round(i * (len(grids) - 1) / max(steps, 1))] for i in range(steps + 1)]
        try:
            write_whole(folder / "training.gif", _gif(chosen, 1000 // self.rate))
        except OSError as error:
            log.warning("samples/training.gif cannot be written: %s", error)


def _gif(grids: Sequence[Path], milliseconds: int) -> bytes:
    """Encodes the grids as a GIF that repeats for ever."""
    frames = (_frame(path) for path in grids)
    durations = [milliseconds] * (len(grids) - 1) + [_PAUSE]
    buffer, options = io.BytesIO(), {"save_all": True, "duration": durations, "loop": 0}
    next(frames).save(buffer, "gif", append_images=frames, **options)
    return buffer.getvalue()


def _frame(path: Path) -> Image.Image:
    """Returns a grid with its iteration written below."""
    with Image.open(path, formats=["PNG"]) as grid:
        frame = Image.new(grid.mode, (grid.width, grid.height + _STRIP))
        frame.paste(grid)
        text = f"iteration {int(path.name.partition('_')[0]):,}"
        ImageDraw.Draw(frame).text((4, grid.height + 5), text, fill="white")
    return frame
