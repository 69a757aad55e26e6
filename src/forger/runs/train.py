"""One training run from config to metrics. Owns the order of things."""

from __future__ import annotations

import logging
import os
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from lightning import Trainer, seed_everything
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from forger.callbacks.exact_resume import ExactResume
from forger.callbacks.interrupts import Interrupts
from forger.data import ImageDataModule
from forger.runs import ranks
from forger.runs.build import (
    build_data,
    build_gan,
    build_loggers,
    build_trainer,
    group_batches,
    image_shape_of,
)
from forger.runs.data_sample import data_sample
from forger.runs.dry_run import describe_dry_run
from forger.runs.ending import recorded
from forger.runs.folder import RunFolder, is_main_process
from forger.runs.launch import cpu_threads, launched_alone
from forger.runs.plan import describe_plan
from forger.runs.record import RecordInCheckpoint
from forger.runs.scoring import build_scores, describe_scores
from forger.runs.shapes import check_shapes
from forger.runs.start import Start
from forger.runs.status import locked

log = logging.getLogger(__name__)

WANDB = "forger.loggers.Wandb"


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
    # Lightning asks the wrong object; the place is ours, see callbacks/exact_resume.py.
    warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before the")
    # A time limit that a resumed run no longer has.
    warnings.filterwarnings("ignore", "Be aware that when using `ckpt_path`")
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
        cfg: composed from `configs/train.yaml`; with `resume`, a run folder, the config of that
            run. The command line has checked it; a notebook calls
            `forger.runs.checking.check.check(cfg)` first.

    Returns:
        Metrics such as `train/loss_g`; empty where `dry_run` is set.

    Raises:
        UserError: a setting or the data cannot work and nothing was trained, or the run could not
            go on.
        Interrupted: a signal ended it.
    """
    quieten_lightning()
    cfg = cfg.copy()
    cfg.seed = choose_seed(cfg.seed)
    name_trackers(cfg)
    seed_everything(cfg.seed, workers=True, verbose=False)
    folder = RunFolder(cfg)
    with cpu_threads(cfg):
        return run(cfg, folder)


def name_trackers(cfg: DictConfig) -> None:
    """Gives runs of W&B their ids here, so that the config records them for a resumed run."""
    for node in (cfg.get("logger") or {}).values():
        if isinstance(node, DictConfig) and node.get("_target_") == WANDB and node.id is None:
            node.id = secrets.token_hex(4)


def mark_failed(folder: RunFolder, trainer: Trainer, reason: str) -> None:
    """Writes that the run failed."""
    folder.mark("failed", reason, trainer.global_step)


@contextmanager
def held(folder: RunFolder) -> Iterator[None]:
    """Keeps other runs out of the folder."""
    if not is_main_process():
        yield
        return
    with locked(folder.path):
        yield


def run(cfg: DictConfig, folder: RunFolder) -> dict[str, float]:
    """Builds everything, says what will happen, and trains."""
    start = Start.of(cfg, folder.path)
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
    start.give_weights(gan)
    sample = data_sample(datamodule) if is_main_process() else None
    start.check_fits(shape, sample)
    loggers: list[Logger] = []
    if not cfg.dry_run:
        folder.path.mkdir(parents=True, exist_ok=True)
        loggers = build_loggers(cfg, folder.path, start.iteration if folder.resumed else None)
    scores = build_scores(cfg, datamodule)
    interrupts = Interrupts()
    callbacks = [
        *(RecordInCheckpoint(folder, shape, sample), ExactResume(), interrupts),
        *([] if scores is None else [scores]),
    ]
    trainer = build_trainer(cfg, folder.path, loggers, callbacks)
    if is_main_process():
        for line in describe_plan(gan, datamodule, trainer, folder.path, shape):
            log.info(line)
        log.info("scores          %s", describe_scores(cfg))
        for line in start.lines():
            log.info("start           %s", line)
    if cfg.dry_run:
        if is_main_process():
            for line in describe_dry_run(gan, datamodule, trainer, shape):
                log.info(line)
        return {}
    if start.nothing_left(trainer):
        folder.mark("finished", None, start.iteration)  # killed when all but this was written
        return {}
    with (
        held(folder),
        ranks.watched(folder.path, trainer, partial(mark_failed, folder, trainer)),
        launched_alone(folder.path),
        interrupts,
    ):
        if is_main_process():
            start.clear_up()
            if scores is not None:  # before training: a classifier may be refused
                scores.prepare(trainer.strategy.root_device)
        folder.record(start.iteration)
        with recorded(folder, trainer), ranks.explained(folder.path, trainer):
            for logger in loggers:
                logger.log_hyperparams(folder.config | {"environment": folder.environment})
            trainer.fit(gan, datamodule=datamodule, ckpt_path=start.checkpoint)
    last_grid = folder.path / "samples" / "last.png"
    if last_grid.is_file() and is_main_process():
        log.info("samples         %s", last_grid)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    last = {} if scores is None else {f"val/{key}": value for key, value in scores.last.items()}
    return metrics | last
