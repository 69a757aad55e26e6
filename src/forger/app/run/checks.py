"""Finds out what only built objects can tell, before anything is trained or written."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from lightning import LightningDataModule
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim import Optimizer

from forger.app.config.device_rules import process_count
from forger.app.config.source import line_of
from forger.copying import copied
from forger.data import ImageDataModule
from forger.errors import ConfigError, UserError
from forger.gan import GAN
from forger.gradients import frozen, trainable
from forger.noise import Draws
from forger.random_state import random_state_kept
from forger.tasks import Batch, Terms

NETWORKS = ("generator", "discriminator")


def images_per_process(trainer: DictConfig, datamodule: LightningDataModule) -> int:
    """Returns how many images a process takes at once, as far as the settings tell; else 2."""
    if not isinstance(datamodule, ImageDataModule):
        return 2
    return datamodule.batch_size // (process_count(trainer) or 1)


def check_updates(gan: GAN, trainer: DictConfig) -> None:
    """Builds both optimizers and schedules once, which may refuse their settings."""
    steps, epochs = trainer.get("max_steps"), trainer.get("max_epochs")
    endless = epochs == -1 or (epochs is None and trainer.get("max_time") is not None)
    total = math.inf if steps in (None, -1) and endless else 1
    optimizers = []
    for name in NETWORKS:
        updates = getattr(gan, f"{name}_updates")
        with _explained(f"optimizer.{name}"):
            made: Any = updates.make_optimizer(getattr(gan, name))
        if not isinstance(made, Optimizer):
            raise ConfigError(
                f"optimizer.{name}: gives an object of {type(made).__name__}, and must give a"
                " torch.optim.Optimizer"
            )
        updates.make_scheduler(made, total)
        optimizers.append(made)
    gan.scheduled.follow(optimizers, total)


def check_epoch(datamodule: LightningDataModule, gan: GAN, trainer: DictConfig) -> None:
    """Checks that an epoch, or the share of it that is asked for, holds an iteration."""
    if not isinstance(datamodule, ImageDataModule):
        return
    batches = gan.batches_per_iteration
    datamodule.check_enough(batches)
    iterations = datamodule.num_train_images // datamodule.batch_size // batches
    for name in ("limit_train_batches", "overfit_batches"):
        share = trainer.get(name)
        if isinstance(share, float) and 0 < share * iterations < 1:
            raise ConfigError(
                f"trainer.{name}={share}: an epoch has {iterations} iterations; write 1 for one of"
                " them"
            )


def check_networks(gan: GAN, image_shape: tuple[int, int, int], batch: int = 2) -> None:
    """Runs copies of G and D once, and takes those of the user's own through two iterations.

    Args:
        gan: left as it is.
        image_shape: channels, height, width.
        batch: images that a process takes at once, as far as that matters: 1 or 2.

    Raises:
        ConfigError: G makes other images than the data holds, D does not give one logit each, or
            one of them cannot be trained.
    """
    dtype = next((p.dtype for p in gan.generator.parameters()), torch.float32)
    with random_state_kept(torch.device("cpu")):
        try:
            trial = Trial(gan, dtype)
        except Exception:  # a network that cannot be copied may train all the same
            return
        _check_outputs(gan, image_shape, dtype)
        if batch > 1 and not _has_own_code(gan):
            return
        for _ in range(2):  # what a first update leaves behind may break the second
            real = trial.example(min(batch, 2), image_shape)
            trial.update_discriminator(real)
            trial.update_generator(real)
    for name in NETWORKS:
        before, after = (_shapes(getattr(owner, name)) for owner in (gan, trial))
        if before != after:
            keys = ", ".join(sorted({key for key, _ in before.items() ^ after.items()}))
            raise ConfigError(
                f"model.{name}: a forward pass adds {keys}, or changes the size; register all"
                " parameters and buffers in __init__, in their sizes"
            )


def _shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def _has_own_code(gan: GAN) -> bool:
    """Tells whether networks, loss or task hold code that is neither ours nor torch's."""
    whole = (gan.generator, gan.discriminator, gan.loss, gan.task)
    modules = [type(module).__module__ for module in gan.modules()]
    return not (
        all(type(part).__module__.startswith("forger.") for part in whole)
        and all(module.startswith(("forger.", "torch.")) for module in modules)
    )


def _check_outputs(gan: GAN, image_shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    trial = Trial(gan, dtype)
    trial.generator.eval()
    trial.discriminator.eval()
    with torch.no_grad():
        trial.compute_generator_terms(trial.example(2, image_shape))
    for name in NETWORKS:
        if not trainable(network := getattr(gan, name)):
            raise ConfigError(f"model.{name}: {type(network).__name__} has no weights to train")


class Trial:
    """Updates of copies of both networks as the GAN makes them, but for the optimizers' steps.

    What fails is raised as a ConfigError that says in which network, or that it is the task.

    Attributes:
        inputs: what each network was first given.
    """

    def __init__(self, gan: GAN, dtype: torch.dtype) -> None:
        self.generator = copied(gan.generator).to(dtype)
        self.discriminator = copied(gan.discriminator).to(dtype)
        self.task = gan.task.with_sides(self.generator, self.discriminator)
        self.task.run = self._run  # type: ignore[method-assign]
        self.task.precision = nullcontext()
        self.loss_name = type(gan.loss).__name__
        self.task_fails = f"task: {type(gan.task).__name__} fails"
        self.inputs: dict[str, tuple[Tensor, ...]] = {}
        self.draws = Draws(gan.seed, dtype=dtype)
        self.draws.start(0)  # in which all that is due at intervals is due

    def example(self, rows: int, image_shape: tuple[int, int, int]) -> Batch:
        """Returns a batch of noise in [-1, 1], and whatever else the task wants."""
        dtype = self.draws.dtype
        images = torch.rand(rows, *image_shape, dtype=dtype) * 2 - 1
        given = {**self.task.example(rows, image_shape), "image": images}
        return {k: one.to(dtype) if one.is_floating_point() else one for k, one in given.items()}

    def update_discriminator(self, batch: Batch) -> None:
        """Computes D's gradient, with all penalties."""
        with torch.no_grad(), _explained(self.task_fails):
            fakes = self.task.fakes(batch, self.draws)
        with _explained(f"model.discriminator: cannot be trained by {self.loss_name}"):
            terms = self.task.discriminator_terms(batch, fakes, self.draws, update=0)
            terms.total.backward()  # type: ignore[no-untyped-call]

    def update_generator(self, batch: Batch) -> None:
        """Computes G's gradient, through D."""
        with frozen(trainable(self.discriminator)):
            terms = self.compute_generator_terms(batch)
            with _explained(f"model.generator: cannot be trained by {self.loss_name} through D"):
                terms.total.backward()  # type: ignore[no-untyped-call]

    def compute_generator_terms(self, batch: Batch) -> Terms:
        """Runs both networks as an update of G does."""
        with _explained(self.task_fails):
            fakes = self.task.fakes(batch, self.draws)
            return self.task.generator_terms(batch, fakes, self.draws)

    def _run(self, network: nn.Module, *inputs: Tensor, **named: Any) -> Any:
        """Takes the place of the task's own: says which network fails, and on what."""
        sides = ((name, getattr(self, name)) for name in NETWORKS)
        name = next(name for name, side in sides if any(network is m for m in side.modules()))
        self.inputs.setdefault(name, inputs)
        alone = "; BatchNorm needs more images than data.batch_size gives each process"
        failing = (
            f"model.{name}: fails on an input {', '.join(str(tuple(x.shape)) for x in inputs)}"
        )
        with _explained(f"{failing}{alone if len(inputs[0]) == 1 else ''}"), self.task.precision:
            return network(*inputs, **named)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Raises an error of the user's code as one of the config, with its file and line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise ConfigError(f"{what}: {line_of(error)}") from error
