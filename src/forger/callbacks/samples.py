"""Sample grids from fixed noise. Owns when they are drawn and where they go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from forger.bounds import NonNegativeInt, PositiveInt, check_bounds
from forger.compiling import uncompiled
from forger.loggers import log_image
from forger.pictures import image_grid, png_bytes
from forger.random_state import random_state_kept
from forger.whole_files import remove_leftovers, write_whole

_BATCH = 64  # images generated at a time


class SampleGrid(Callback):
    """Draws what the generator makes of the same noise, again and again, as PNG grids.

    Every `every_n_steps` iterations, and once at the end of `fit`, it writes
    `samples/<iteration>_ema.png` (and `_raw.png`) into the run folder, copies the newest EMA grid
    to `samples/last.png`, and hands the grids to each logger that takes images, as `samples/ema`
    and `samples/raw`. The process of rank 0 does this alone.

    The noise has a generator of its own, the networks run in eval mode without gradients, and modes
    and random state are put back, so that a run with this callback equals one without it in bits.

    Args:
        n: images in a grid.
        every_n_steps: iterations between grids.
        seed: seed of the fixed noise.
        raw: whether to draw the generator without averaging too.

    Raises:
        ConfigError: `n`, `every_n_steps` or `seed` is out of range.
    """

    def __init__(
        self,
        n: PositiveInt = 64,
        every_n_steps: PositiveInt = 500,
        seed: NonNegativeInt = 0,
        raw: bool = True,
    ) -> None:
        check_bounds(n, PositiveInt, "n")
        check_bounds(every_n_steps, PositiveInt, "every_n_steps")
        check_bounds(seed, NonNegativeInt, "seed")
        self.n = n
        self.every_n_steps = every_n_steps
        self.seed = seed
        self.raw = raw
        self._drawn_at: int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Removes what a killed run left half written."""
        if trainer.is_global_zero:
            remove_leftovers(Path(trainer.default_root_dir) / "samples", "*.png")

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        """Draws the grids when their iteration has come."""
        if trainer.is_global_zero and pl_module.iteration % self.every_n_steps == 0:
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Draws the final grids, unless the last iteration has just done so."""
        if trainer.is_global_zero and pl_module.iteration != self._drawn_at:
            self._draw(trainer, pl_module)

    def _draw(self, trainer: Trainer, gan: Any) -> None:
        self._drawn_at = gan.iteration
        folder = Path(trainer.default_root_dir) / "samples"
        noise = gan.sample_noise(self.n, torch.Generator().manual_seed(self.seed))
        networks = {"ema": gan.ema_generator} | ({"raw": gan.generator} if self.raw else {})
        for kind, network in networks.items():
            grid = image_grid(_generate(network, noise, gan.device))
            png = png_bytes(grid)
            write_whole(folder / f"{gan.iteration:06d}_{kind}.png", png)
            if kind == "ema":
                write_whole(folder / "last.png", png)
            for logger in trainer.loggers:
                log_image(logger, f"samples/{kind}", grid, gan.iteration)


@torch.no_grad()  # not inference_mode: a module that keeps a tensor could not train with it
def _generate(network: nn.Module, noise: Tensor, device: torch.device) -> Tensor:
    """Runs `network` on `noise`, `(N, latent_dim)`, in its own precision; `(N, C, H, W)`."""
    dtype = next((p.dtype for p in network.parameters()), noise.dtype)
    with _eval_mode(network), random_state_kept(device), uncompiled():
        batches = torch.split(noise.to(device, dtype), _BATCH)
        return torch.cat([network(batch) for batch in batches])


@contextmanager
def _eval_mode(network: nn.Module) -> Iterator[None]:
    """Sets eval mode, and then the mode of each submodule as it was: some may be frozen in eval."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
