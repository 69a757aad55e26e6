"""One training run from config to metrics. Owns the order of things and how it ended."""

from __future__ import annotations

import logging
import os
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from forger.data import ImageDataModule
from forger.errors import UserError
from forger.loggers import close_loggers
from forger.runs.build import (
    build_data,
    build_gan,
    build_loggers,
    build_trainer,
    group_batches,
    image_shape_of,
)
from forger.runs.environment import git
from forger.runs.folder import RunFolder, is_main_process
from forger.runs.launch import cpu_threads, launched_alone
from forger.runs.load import forger_version
from forger.runs.plan import describe_plan
from forger.runs.scoring import build_scores, describe_scores
from forger.runs.shapes import check_shapes

log = logging.getLogger(__name__)


class RecordInCheckpoint(Callback):
    """Puts what rebuilds the networks into every checkpoint, as plain containers.

    Args:
        config: of the run, resolved.
        image_shape: channels, height, width.
    """

    def __init__(self, config: dict[str, Any], image_shape: tuple[int, int, int]) -> None:
        self.record = {
            "config": config,
            "image_shape": list(image_shape),
            "forger_version": forger_version(),
            "commit": git("rev-parse", "HEAD"),
        }

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds the record."""
        checkpoint.update(self.record)


def quieten_lightning() -> None:
    """Keeps Lightning's warnings and drops its advertisements and what the plan says better."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logger = logging.getLogger(name)
        logger.handlers.clear()  # its own; messages still reach ours
        logger.setLevel(logging.WARNING)
    # The averaged generator is in eval mode on purpose.
    warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode")
    # Rows of metrics are due by iteration, across epochs, however short these are.
    warnings.filterwarnings("ignore", "The number of training batches .* logging interval")
    # Lightning 2.6 against torch 2.14, until Lightning follows.
    warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)")


def choose_seed(seed: int | None) -> int:
    """Returns the seed, or a random one for `None`; ranks started by another take that one's."""
    if seed is not None:
        return seed
    if not is_main_process() and "PL_GLOBAL_SEED" in os.environ:
        return int(os.environ["PL_GLOBAL_SEED"])
    return secrets.randbelow(2**32)


def train(cfg: DictConfig) -> dict[str, float]:
    """Trains as the config says, and returns the last value of each metric.

    Args:
        cfg: composed from `configs/train.yaml`. The command line has checked it; a notebook calls
            `forger.runs.checking.check.check(cfg)` first.

    Returns:
        Metrics such as `train/loss_g`; empty where `dry_run` is set.

    Raises:
        UserError: a setting or the data cannot work; nothing was trained.
    """
    quieten_lightning()
    cfg = cfg.copy()
    cfg.seed = choose_seed(cfg.seed)
    seed_everything(cfg.seed, workers=True, verbose=False)
    folder = RunFolder(cfg)
    with cpu_threads(cfg):
        return run(cfg, folder)


def run(cfg: DictConfig, folder: RunFolder) -> dict[str, float]:
    """Builds everything, says what will happen, and trains."""
    datamodule = build_data(cfg, cfg.seed)
    shape = image_shape_of(datamodule)
    gan = build_gan(cfg, shape, cfg.seed)
    check_shapes(gan, shape)
    datamodule = group_batches(datamodule, gan, cfg.seed)
    if is_main_process():
        datamodule.prepare_data()
        datamodule.setup("fit")
        if isinstance(datamodule, ImageDataModule):
            datamodule.check_enough(gan.batches_per_iteration)
    loggers: list[Logger] = []
    if not cfg.dry_run:
        folder.path.mkdir(parents=True, exist_ok=True)
        loggers = build_loggers(cfg, folder.path)
    scores = build_scores(cfg, datamodule)
    callbacks: list[Callback] = [RecordInCheckpoint(folder.config, shape)]
    trainer = build_trainer(
        cfg, folder.path, loggers, callbacks if scores is None else [*callbacks, scores]
    )
    if is_main_process():
        for line in describe_plan(gan, datamodule, trainer, folder.path, shape):
            log.info(line)
        log.info("scores          %s", describe_scores(cfg))
    if cfg.dry_run:
        return {}
    if scores is not None and is_main_process():  # before training: a classifier may be refused
        scores.prepare(trainer.strategy.root_device)
    folder.record()
    with launched_alone(folder.path), recorded(folder, trainer):
        for logger in loggers:
            logger.log_hyperparams(folder.config | {"environment": folder.environment})
        trainer.fit(gan, datamodule=datamodule)
    last_grid = folder.path / "samples" / "last.png"
    if last_grid.is_file() and is_main_process():
        log.info("samples         %s", last_grid)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    last = {} if scores is None else {f"val/{key}": value for key, value in scores.last.items()}
    return metrics | last


@contextmanager
def recorded(folder: RunFolder, trainer: Trainer) -> Iterator[None]:
    """Writes how the run ended and closes its trackers with the same verdict."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        by_hand = any(isinstance(e, KeyboardInterrupt) for e in (error, error.__context__))
        reason = "Ctrl-C" if by_hand else f"{type(error).__name__}: {error}"
        folder.mark("interrupted", reason, trainer.global_step)
        close_loggers(trainer.loggers, exit_code=1)
        if by_hand:  # Lightning makes it a SystemExit
            raise KeyboardInterrupt from None
        raise
    except BaseException as error:
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        folder.mark("failed", reason, trainer.global_step)
        close_loggers(trainer.loggers, exit_code=1)
        raise
    folder.mark("finished", None, trainer.global_step)
    close_loggers(trainer.loggers, exit_code=0)
