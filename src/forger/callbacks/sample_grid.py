"""Grids of generated images, drawn from the same noise again and again while a run trains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from forger.batches import IterationBatches, images_of
from forger.bounds import NonNegativeInt, PositiveInt, check_fields
from forger.callbacks.checkpoint import ends
from forger.loggers import trackers_of
from forger.pictures import image_grid, png_bytes, to_pil
from forger.whole_files import write_whole


@dataclass(eq=False)
class SampleGrid(Callback):
    """Draws what the generator makes of the same noise, again and again, as PNG grids.

    At iteration 0, at its interval and at the end it writes `samples/<iteration>_ema.png` (and
    `_raw.png`) into the run folder, copies the newest EMA grid to `samples/last.png`, and sends the
    grids to the trackers. The first real images are drawn once as `samples/000000_real.png`. A run
    with this callback equals one without it in bits.

    The images are those of `forger.load(<checkpoint>).grid(n, seed)`, and the picture is the
    `grid.png` of `generate.py seed=<seed> n=<n>` for a checkpoint of the same iteration. With
    classes each has a row, of `n // classes` images, and `generate.py n=<images in a row>` draws
    the same; of more classes than n, the first ones are shown by an image each. A translator is
    shown with its sources, which count: `generate.py n=<sources>` draws the same.

    Args:
        n: images in a grid, about.
        every_n_steps: iterations between grids.
        seed: of the noise.
        raw: whether to draw the generator without averaging too.

    Raises:
        ConfigError: `n`, `every_n_steps` or `seed` is out of range.
    """

    n: PositiveInt = 64
    every_n_steps: PositiveInt = 500
    seed: NonNegativeInt = 0
    raw: bool = True

    def __post_init__(self) -> None:
        check_fields(self, "callbacks.samples")
        self._drawn_at: int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Draws a new run's first grids."""
        if pl_module.iteration == 0:
            self._draw(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, _: int) -> None:
        """Draws the real images of a new run's first iteration."""
        if trainer.is_global_zero and pl_module.iteration == 0:
            batches = batch if isinstance(batch, IterationBatches) else (batch,)
            reals = torch.cat([images_of(one) for one in batches])
            self._write(trainer, "real", image_grid(reals[: self.n]), 0)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        """Draws the grids when their iteration has come; the last one is saved first."""
        if pl_module.iteration % self.every_n_steps == 0 and not ends(trainer):
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Draws the final grids, unless the last iteration has just done so."""
        if pl_module.iteration != self._drawn_at:
            self._draw(trainer, pl_module)

    def _draw(self, trainer: Trainer, gan: Any) -> None:
        if not trainer.is_global_zero:
            return
        self._drawn_at = gan.iteration
        networks = {"ema": gan.ema_generator.module} | ({"raw": gan.generator} if self.raw else {})
        for name, network in networks.items():
            images, columns, rows = gan.task.sampler(network).grid(self.n, self.seed)
            grid = image_grid(images, columns, rows)
            caption = f"rows: {', '.join(rows)}" if rows else None
            self._write(trainer, name, grid, gan.iteration, caption)

    def _write(
        self, trainer: Trainer, name: str, grid: Tensor, iteration: int, caption: str | None = None
    ) -> None:
        """Writes a grid `(C, H, W)`, uint8, and sends it to the trackers."""
        folder, png = Path(trainer.default_root_dir) / "samples", png_bytes(grid)
        write_whole(folder / f"{iteration:06d}_{name}.png", png)
        if name == "ema":
            write_whole(folder / "last.png", png)
        for tracker in trackers_of(trainer.loggers):
            tracker.log_picture(f"samples/{name}", to_pil(grid), iteration, caption)
