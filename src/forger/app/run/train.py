"""One training run from config to metrics. Owns the order of things."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningDataModule, Trainer, seed_everything
from omegaconf import DictConfig, OmegaConf

from forger.app.cli.quiet import quieten_lightning
from forger.app.config.command import Command
from forger.app.config.messages import near, setting
from forger.app.config.paths import with_absolute_paths
from forger.app.config.trust import named, trust_in
from forger.app.distributed.rendezvous import Rendezvous
from forger.app.distributed.watch import explained, watched
from forger.app.run.build import (
    build_data,
    build_gan,
    build_loggers,
    build_pruning,
    build_trainer,
    check_trackers,
    group_batches,
    image_shape_of,
)
from forger.app.run.checks import check_epoch, check_networks, check_updates, images_per_process
from forger.app.run.compilation import Compilation, describe_compilation
from forger.app.run.devices import check_gpu, choose_precision, threads
from forger.app.run.draws import name_trackers, sweep_name
from forger.app.run.dry_run import describe_dry_run
from forger.app.run.ending import recorded
from forger.app.run.folder import RunFolder, is_main_process
from forger.app.run.instantiate import all_refusals, import_targets
from forger.app.run.job_words import trusting
from forger.app.run.load import refuse_untrusted
from forger.app.run.plan import describe_plan
from forger.app.run.record import RecordInCheckpoint, describe_environment, fingerprint
from forger.app.run.scoring import ScorePlan, build_scores, check_awaited, plan_scores
from forger.app.run.start import Start
from forger.callbacks.exact_resume import ExactResume
from forger.callbacks.interrupts import Interrupts
from forger.gan import GAN
from forger.loggers.metrics_csv import last_values

log = logging.getLogger(__name__)

_ALL = ("",)  # parts of the config
CORES = "FORGER_CORES"  # set by a sweep: how many cores of this machine one job may use


def train(
    cfg: DictConfig,
    command: Command | None = None,
    met: Rendezvous | None = None,
    slurm_job: str | None = None,
) -> dict[str, float]:
    """Trains as the config says, and returns the last value of each metric.

    Args:
        cfg: composed from `configs/train.yaml`; with `resume`, a run folder, the config of that
            run. The command line has checked it; a notebook calls
            `forger.app.config.check.check(cfg)` first.
        command: that was typed; `None` in a notebook.
        met: the other processes of the run; `None`: there are none.
        slurm_job: name by which a requeued job finds its run.

    Returns:
        Metrics such as `train/loss_g`; empty where `dry_run` is set.

    Raises:
        UserError: a setting or the data cannot work and nothing was trained, or the run could not
            go on.
        Interrupted: a signal ended it.
    """
    quieten_lightning()
    cfg = with_absolute_paths(cfg)
    if cfg.resume is not None:  # a run folder may be anybody's
        trust, config = named(cfg.get("trust"), cfg.get("moved")), OmegaConf.to_container(cfg)
        refuse_untrusted(config, Path(cfg.resume), trust, _ALL, names_only=True)
    import_targets(cfg)
    if cfg.seed is None:
        cfg.seed = secrets.randbelow(2**32)
    if cfg.trainer.accelerator in ("auto", "gpu", "cuda"):
        check_gpu()
    precision = choose_precision(cfg)
    name_trackers(cfg)
    if is_main_process():
        check_trackers(cfg)
    seed_everything(cfg.seed, workers=True, verbose=False)
    folder = RunFolder(cfg)
    surroundings = Surroundings(command or Command(Path(), "train", ()), met, slurm_job)
    with threads(cpu_threads(cfg)):
        return run(cfg, folder, precision, surroundings)


def mark_failed(folder: RunFolder, trainer: Trainer, reason: str) -> None:
    """Writes that the run failed."""
    folder.mark("failed", reason, trainer.global_step)


@dataclass(frozen=True)
class Surroundings:
    """What a run has to do with other processes and commands."""

    command: Command
    met: Rendezvous | None
    slurm_job: str | None


@contextmanager
def process_group(met: Rendezvous | None, trainer: Trainer) -> Iterator[None]:
    """Joins torch's process group, which Lightning then takes as it is, and leaves it."""
    if met is None or met.own.count == 1:
        yield
        return
    met.init_process_group("nccl" if trainer.strategy.root_device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def cpu_threads(cfg: DictConfig) -> int | None:
    """Returns the CPU threads of a process; `None`: as many as torch takes."""
    processes = cfg.trainer.devices if cfg.trainer.accelerator == "cpu" else 1
    if cfg.trainer.threads is None and isinstance(processes, int) and processes > 1:
        return max(1, (int(os.environ.get(CORES, 0)) or os.cpu_count() or 1) // processes)
    threads: int | None = cfg.trainer.threads
    return threads


@dataclass(frozen=True)
class Parts:
    """What trains, before there is a Trainer."""

    datamodule: LightningDataModule
    gan: GAN
    shape: tuple[int, int, int]
    sample: dict[str, Any] | None
    start: Start
    scores: ScorePlan | None  # of the main process


def run(
    cfg: DictConfig, folder: RunFolder, precision: str | None, around: Surroundings
) -> dict[str, float]:
    """Builds everything, says what will happen, and trains; `precision` says why it is this one."""
    parts = assemble(cfg, folder)
    if precision is not None and is_main_process():
        log.info("precision       %s", precision)
    if cfg.dry_run:
        trainer = build_trainer(cfg, folder.path, [], [])
        tell(cfg, folder, parts, trainer)
        if is_main_process():
            for line in describe_dry_run(parts.gan, parts.datamodule, trainer, parts.shape):
                log.info(line)
        return {}
    with folder.hold():
        return fit(cfg, folder, parts, around)


def assemble(cfg: DictConfig, folder: RunFolder) -> Parts:
    """Builds data and networks, and finds out whether they fit each other and the start."""
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
    return Parts(datamodule, gan, shape, sample, start, scores)


def tell(cfg: DictConfig, folder: RunFolder, parts: Parts, trainer: Trainer) -> None:
    """Logs the plan."""
    if parts.scores is None:
        return
    for line in describe_plan(parts.gan, parts.datamodule, trainer, folder.path, parts.shape):
        log.info(line)
    if cfg.compile:
        log.info("compile         %s", describe_compilation(parts.gan))
    log.info("scores          %s", parts.scores.line)
    for line in parts.start.describe():
        log.info("start           %s", line)


def fit(cfg: DictConfig, folder: RunFolder, parts: Parts, around: Surroundings) -> dict[str, float]:
    """Trains in the run's folder, which no other process does meanwhile."""
    start = parts.start
    loggers = build_loggers(cfg, folder.path, start.iteration if folder.resumed else None)
    scores = build_scores(cfg, parts.datamodule, parts.scores)
    interrupts = Interrupts()
    compilation = Compilation(interrupts) if cfg.compile else None
    pruning = build_pruning(cfg)
    callbacks: list[Callback] = [
        *(RecordInCheckpoint(folder, parts.shape, parts.sample), ExactResume(), interrupts),
        *(callback for callback in (scores, compilation, pruning) if callback is not None),
    ]
    trainer = build_trainer(cfg, folder.path, loggers, callbacks)
    tell(cfg, folder, parts, trainer)
    start.check_unfinished(trainer, cfg.trainer.max_time)
    failed = partial(mark_failed, folder, trainer)
    with watched(around.met, failed), process_group(around.met, trainer), interrupts:
        if is_main_process():
            start.set_damaged_aside()
            if compilation is not None:  # before training: this machine may lack a compiler
                compilation.check(trainer.strategy.root_device)
            if scores is not None:  # before training: a classifier may be refused
                scores.prepare(trainer.strategy.root_device)
        environment = describe_environment(cfg.seed)
        if around.slurm_job is not None:
            environment["job"] = around.slurm_job
        folder.record(environment, start.iteration)
        with recorded(folder, trainer, around.command), explained(around.met):
            chosen = {f"choice_{group}": word for group, word in folder.choices.items()}
            for logger in loggers:
                logger.log_hyperparams(folder.config | chosen | {"environment": folder.environment})
            with compilation or nullcontext():
                trainer.fit(parts.gan, datamodule=parts.datamodule, ckpt_path=start.checkpoint)
    last_grid = folder.path / "samples" / "last.png"
    if last_grid.is_file() and is_main_process():
        log.info("samples         %s", near(last_grid))
    if is_main_process() and sweep_name() is None:
        words = [setting("run", near(folder.path)), *trusting(trust_in(folder.config))]
        following = [around.command.typed(script, *words) for script in ("evaluate", "generate")]
        print("\n  ".join(["next:", *following]), flush=True)
    metrics = last_values(folder.path) if folder.resumed else {}
    metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
    last = {} if scores is None else {f"val/{key}": value for key, value in scores.last.items()}
    return metrics | last
