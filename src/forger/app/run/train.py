"""Trains one run: from its config to its metrics."""

from __future__ import annotations

import logging
import os
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lightning import LightningDataModule, Trainer, seed_everything
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from forger.app.config.command import Command
from forger.app.config.messages import near, setting
from forger.app.config.trust import trust_in
from forger.app.distributed.watch import explained, watched_process_group
from forger.app.run.build import (
    build_callbacks,
    build_data,
    build_gan,
    build_loggers,
    build_trainer,
    group_batches,
    image_shape_of,
)
from forger.app.run.checks import check_epoch, check_networks, check_updates, images_per_process
from forger.app.run.compilation import describe_compilation
from forger.app.run.devices import threads
from forger.app.run.dry_run import describe_dry_run
from forger.app.run.ending import recorded
from forger.app.run.folder import RunFolder, is_main_process
from forger.app.run.instantiate import all_refusals
from forger.app.run.plan import describe_plan
from forger.app.run.prepare import prepare, sweep_name
from forger.app.run.record import RecordInCheckpoint, describe_environment, fingerprint
from forger.app.run.resume import trusting
from forger.app.run.scoring import ScorePlan, check_awaited, plan_scores
from forger.app.run.several_processes import Agreed
from forger.app.run.start import Start
from forger.gan import GAN
from forger.loggers.metrics_csv import last_values

log = logging.getLogger(__name__)

CORES = "FORGER_CORES"  # set by a sweep: how many cores of this machine one job may use


def train(cfg: DictConfig, agreed: Agreed | None = None) -> dict[str, float]:
    """Trains as the config says, and returns the last value of each metric.

    Args:
        cfg: composed from `configs/train.yaml`; with `resume`, a run folder, the config of that
            run. The command line has checked it; a notebook calls
            `forger.app.config.check.check(cfg)` first.
        agreed: command and other processes of the run; `None` in a notebook.

    Returns:
        Metrics such as `train/loss_g`; empty where `dry_run` is set.

    Raises:
        UserError: a setting or the data cannot work and nothing was trained, or the run could not
            go on.
        Interrupted: a signal ended it.
    """
    cfg = prepare(cfg)
    seed_everything(cfg.seed, workers=True, verbose=False)
    with threads(_threads(cfg)):
        return _run(cfg, agreed or Agreed(Command(Path(), "train", ()), cfg))


def _threads(cfg: DictConfig) -> int | None:
    """Returns the CPU threads of this process; `None`: as many as torch takes."""
    own: int | None = cfg.trainer.threads
    processes = cfg.trainer.devices if cfg.trainer.accelerator == "cpu" else 1
    if own is None and isinstance(processes, int) and processes > 1:
        return max(1, (int(os.environ.get(CORES, 0)) or os.cpu_count() or 1) // processes)
    return own


@dataclass(frozen=True)
class Parts:
    """What trains, before there is a Trainer."""

    folder: RunFolder
    datamodule: LightningDataModule
    gan: GAN
    shape: tuple[int, int, int]
    sample: dict[str, Any] | None
    start: Start
    scores: ScorePlan | None  # of the main process


def _run(cfg: DictConfig, agreed: Agreed) -> dict[str, float]:
    """Builds everything, says what will happen, and trains."""
    parts = _assemble(cfg)
    if not cfg.dry_run:
        with parts.folder.hold():
            return _train(cfg, parts, agreed)
    trainer = build_trainer(cfg, parts.folder.path, [], [])
    _log_plan(cfg, parts, trainer)
    if is_main_process():
        for line in describe_dry_run(parts.gan, parts.datamodule, trainer, parts.shape):
            log.info(line)
    return {}


def _assemble(cfg: DictConfig) -> Parts:
    """Builds data and networks, and finds out whether they fit each other and the start."""
    folder = RunFolder(cfg)
    start = Start.of(cfg, folder.path)
    datamodule = build_data(cfg, cfg.seed)
    shape, batch = image_shape_of(datamodule)
    gan = build_gan(cfg, shape, cfg.seed)
    with all_refusals() as attempt:
        size = batch or images_per_process(cfg.trainer, datamodule)
        attempt(check_networks, gan, shape, size)
        attempt(check_updates, gan, cfg.trainer)
    datamodule = group_batches(datamodule, gan, cfg.seed)
    sample = scores = None
    if is_main_process():
        datamodule.prepare_data()
        datamodule.setup("fit")
        sample = fingerprint(datamodule)
        with all_refusals() as attempt:
            attempt(check_epoch, datamodule, gan, cfg.trainer)
            scores = attempt(plan_scores, cfg, datamodule)
            if scores is not None:
                attempt(check_awaited, cfg, scores, gan.loss)
    start.load_weights(gan)
    start.check_same_images(shape, sample)
    return Parts(folder, datamodule, gan, shape, sample, start, scores)


def _log_plan(cfg: DictConfig, parts: Parts, trainer: Trainer) -> None:
    if parts.scores is None:
        return
    for line in describe_plan(parts.gan, parts.datamodule, trainer, parts.folder.path, parts.shape):
        log.info(line)
    if cfg.compile:
        log.info("compile         %s", describe_compilation(parts.gan))
    log.info("scores          %s", parts.scores.line)
    for line in parts.start.describe():
        log.info("start           %s", line)


def _train(cfg: DictConfig, parts: Parts, agreed: Agreed) -> dict[str, float]:
    """Trains in the run's folder, which no other process does meanwhile."""
    folder, start = parts.folder, parts.start
    loggers = build_loggers(cfg, folder.path, start.iteration if folder.resumed else None)
    record = RecordInCheckpoint(folder, parts.shape, parts.sample)
    callbacks = build_callbacks(cfg, record, parts.datamodule, parts.scores)
    scores, compilation = callbacks.scores, callbacks.compilation
    trainer = build_trainer(cfg, folder.path, loggers, callbacks.all)
    _log_plan(cfg, parts, trainer)
    start.check_unfinished(trainer, cfg.trainer.max_time)
    device, failed = trainer.strategy.root_device, partial(_mark_failed, folder, trainer)
    with watched_process_group(agreed.met, device, failed), callbacks.interrupts:
        if is_main_process():
            start.set_damaged_aside()
            if compilation is not None:  # before training: this machine may lack a compiler
                compilation.check(device)
            if scores is not None:  # before training: a classifier may be refused
                scores.prepare(device)
        folder.record(describe_environment(cfg.seed, agreed.command), start.iteration)
        with recorded(folder, trainer, agreed.command), explained(agreed.met):
            _log_hyperparams(folder, loggers)
            with compilation.errors_worded() if compilation else nullcontext():
                trainer.fit(parts.gan, datamodule=parts.datamodule, ckpt_path=start.checkpoint)
    if is_main_process():
        _say_what_follows(folder, agreed.command)
    metrics = last_values(folder.path) if folder.resumed else {}
    metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
    last = {} if scores is None else {f"val/{key}": value for key, value in scores.last.items()}
    return metrics | last


def _mark_failed(folder: RunFolder, trainer: Trainer, reason: str) -> None:
    folder.mark("failed", reason, trainer.global_step)


def _log_hyperparams(folder: RunFolder, loggers: list[Logger]) -> None:
    chosen = {f"choice_{group}": word for group, word in folder.choices.items()}
    for logger in loggers:
        logger.log_hyperparams(folder.config | chosen | {"environment": folder.environment})


def _say_what_follows(folder: RunFolder, command: Command) -> None:
    """Names the last pictures and, but in a sweep, the commands that one may type next."""
    last_grid = folder.path / "samples" / "last.png"
    if last_grid.is_file():
        log.info("samples         %s", near(last_grid))
    if sweep_name() is None:
        words = [setting("run", near(folder.path)), *trusting(trust_in(folder.config))]
        following = [command.typed(script, *words) for script in ("evaluate", "generate")]
        print("\n  ".join(["next:", *following]), flush=True)
