"""Trains once undisturbed and once in pieces, and compares all that is left, in bits."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import LabelledSquares, Squares, make_gan, make_trainer
from lightning import Callback
from lightning.pytorch.loggers import Logger
from same import differences

from forger import losses
from forger.callbacks import Checkpoint
from forger.callbacks.exact_resume import ExactResume
from forger.checkpoints.reading import read_checkpoint
from forger.checkpoints.writing import WholeCheckpointIO
from forger.gan import GAN
from forger.schedules import Cosine, Linear
from forger.updates import Updates

STEPS = 11


class ManySquares(Squares):
    """Several iterations an epoch even where one takes many batches."""

    count = 400


class ManyLabelled(LabelledSquares):
    """The same with labels."""

    count = 400


class Kill(Callback):
    """Ends training as abruptly as one process can, and keeps the rows logged until then."""

    def __init__(self, iteration: int, rows: list[Any]) -> None:
        self.iteration, self.rows = iteration, rows

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.iteration:
            self.rows += trainer.logger.rows
            raise RuntimeError("killed")


class Rows(Logger):
    """Keeps every logged number but those about time."""

    name = version = "rows"

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, Any]]] = []

    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.rows.append((step, {k: v for k, v in metrics.items() if "per_second" not in k}))


def full_gan(loss: losses.AdversarialLoss, model: Any = make_gan) -> GAN:
    """A GAN with everything on that training can carry from one iteration to the next."""
    adam = partial(torch.optim.Adam, lr=2e-3, betas=(0.5, 0.9), fused=True)
    gan: GAN = model(
        loss=loss,
        generator_updates=Updates(
            optimizer=adam, schedule=Cosine(start=0.2), gradient_clip=0.5, accumulate=2
        ),
        discriminator_updates=Updates(
            optimizer=adam, schedule=Linear(), gradient_clip=1.0, accumulate=2
        ),
        ema_decay=0.9,
        seed=3,
    )
    return gan


def train(folder: Path, gan: GAN, data: Any, *callbacks: Callback, **settings: Any) -> list[Any]:
    """Trains with a checkpoint after every iteration; returns the rows logged."""
    rows, path = Rows(), settings.pop("ckpt_path", None)
    plugins = settings.pop("plugins", list)()  # with a state: made anew for each Trainer
    trainer = make_trainer(
        folder,
        callbacks=[ExactResume(), *callbacks, Checkpoint(every_n_steps=1)],
        logger=rows,
        plugins=[*plugins, WholeCheckpointIO()],
        enable_checkpointing=True,
        **({"max_steps": STEPS} | settings),
    )
    trainer.fit(gan, datamodule=data, ckpt_path=path)
    return rows.rows


def last(folder: Path) -> dict[str, Any]:
    return read_checkpoint(folder / "checkpoints" / "last.ckpt")


def assert_resumes(
    folder: Path, make: Any, data: Any, kills: tuple[int, ...], **settings: Any
) -> None:
    """Trains once undisturbed and once in pieces, each in new objects, and compares all."""
    whole, cut = folder / "whole", folder / "cut"
    expected = train(whole, make(), data(), **settings)
    rows: list[Any] = []
    path = None
    for kill in kills:
        with pytest.raises(RuntimeError, match="killed"):
            train(cut, make(), data(), Kill(kill, rows), ckpt_path=path, **settings)
        torch.rand(7)  # whatever else happens in a process
        path = cut / "checkpoints" / "last.ckpt"
        assert last(cut)["global_step"] == kill
    rows += train(cut, make(), data(), ckpt_path=path, **settings)
    assert not differences(last(whole), last(cut))
    assert repr(rows) == repr(expected)  # exact, and of 16 bits a norm may be no number


def squares() -> ManySquares:
    return ManySquares(batch_size=8, seed=5, flip=True)


def labelled() -> ManyLabelled:
    return ManyLabelled(batch_size=8, seed=5, flip=True)
