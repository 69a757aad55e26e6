"""A stand-in with the attributes that callbacks use, small enough for hundreds of iterations."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor, nn


class FakeGAN(LightningModule):
    """Trains on noise from the global random state, so that a draw too many shows in its bits."""

    batches_per_iteration = 1

    def __init__(self, shape: tuple[int, int, int] = (1, 28, 28)) -> None:
        super().__init__()
        self.automatic_optimization = False
        size = shape[0] * shape[1] * shape[2]
        self.generator = nn.Sequential(
            nn.Linear(4, size),
            nn.BatchNorm1d(size),
            nn.Dropout(),
            nn.Unflatten(1, shape),
            nn.Tanh(),
        )
        self.generator.latent_dim = 4  # type: ignore[assignment]
        self.ema_generator = nn.Module()
        self.ema_generator.module = copy.deepcopy(self.generator)
        self.prior = "normal"

    def on_train_start(self) -> None:
        self.ema_generator.eval()  # here, since Lightning warns of modules in eval mode before it

    @property
    def iteration(self) -> int:
        return self.global_step

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        loss = self.generator(torch.randn(8, 4)).square().mean()
        self.manual_backward(loss)
        optimizer.step()
        if self.iteration % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            row = {"loss_g": loss, "loss_d": 2 * loss, "images_per_second": 1234.5}
            self.log_dict({f"train/{k}": v for k, v in row.items()}, logger=False)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.generator.parameters(), lr=0.1)


class Epoch:
    """A loader of `length` batches of two grey images."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Tensor]:
        return iter([torch.zeros(2, 1, 28, 28)] * self.length)


def fit(
    folder: Path,
    *callbacks: Any,
    gan: FakeGAN | None = None,
    batches: int = 10,
    ckpt_path: Path | None = None,
    **flags: Any,
) -> Trainer:
    """Trains on the CPU; `folder` is the run folder and an epoch has `batches` iterations."""
    defaults = {"logger": False, "log_every_n_steps": 1, "max_epochs": 1}
    extra: dict[str, Any] = {
        "enable_progress_bar": any(hasattr(callback, "enable") for callback in callbacks),
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
    }
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=list(callbacks),
        enable_model_summary=False,
        **(defaults | extra | flags),
    )
    trainer.fit(gan or FakeGAN(), Epoch(batches), ckpt_path=ckpt_path)
    return trainer
