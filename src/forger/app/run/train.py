"""Trains one run: from its config to its metrics."""

from __future__ import annotations

import logging
import os
import secrets
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning import Callback, LightningDataModule, Trainer, seed_everything
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from forger.app.config.command import Command
from forger.app.config.messages import near, setting
from forger.app.config.settings import with_absolute_paths
from forger.app.config.trust import named, trust_in
from forger.app.distributed.watch import explained, watched_process_group
from forger.app.run.build import (
    build_data,
    build_gan,
    build_loggers,
    build_pruning,
    build_trainer,
    check_trackers,
    classes_of,
    group_batches,
    image_shape_of,
    source_shape_of,
    texts_of,
)
from forger.app.run.checks import check_epoch, check_networks, check_updates, images_per_process
from forger.app.run.compilation import Compilation
from forger.app.run.devices import check_gpu, choose_precision, threads
from forger.app.run.dry_run import describe_dry_run
from forger.app.run.folder import RunFolder, is_main_process
from forger.app.run.instantiate import all_refusals, import_targets
from forger.app.run.load import refuse_untrusted
from forger.app.run.plan import describe_plan
from forger.app.run.record import RecordInCheckpoint, describe_environment, fingerprint, recorded
from forger.app.run.resume import trusting
from forger.app.run.scoring import ScorePlan, build_scores, check_awaited, plan_scores
from forger.app.run.several_processes import Agreed
from forger.app.run.start import Start
from forger.callbacks.exact_resume import ExactResume
from forger.callbacks.interrupts import Interrupts
from forger.callbacks.scores import ScoreCallback
from forger.checkpoints.reading import set_damaged_aside
from forger.gan import GAN
from forger.hardware import core_count
from forger.loggers.metrics_csv import last_values
from forger.processes import CORES, SWEEP
from forger.sampling.translator import Translator
from forger.text import TextFacts

log = logging.getLogger(__name__)


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
    cfg = _prepared(cfg)
    seed_everything(cfg.seed, workers=True, verbose=False)
    with threads(_threads(cfg)):
        parts = _build_parts(cfg)
        if not cfg.dry_run:
            with parts.folder.hold():
                return _train(cfg, parts, agreed or Agreed(Command(Path(), "train", ()), cfg))
        trainer = build_trainer(cfg, parts.folder.path, [], [])
        _log_plan(cfg, parts, trainer)
        if is_main_process():
            for line in describe_dry_run(parts.gan, parts.datamodule, trainer, parts.shape):
                log.info(line)
        return {}


def _prepared(cfg: DictConfig) -> DictConfig:
    """Returns the config with absolute paths, and with what it left open decided."""
    _quieten_lightning()
    cfg = with_absolute_paths(cfg)
    if cfg.resume is not None:  # a run folder may be anybody's
        trust, config = named(cfg.get("trust"), cfg.get("moved")), OmegaConf.to_container(cfg)
        refuse_untrusted(config, Path(cfg.resume), trust, [""], names_only=True)
    import_targets(cfg)
    if cfg.seed is None:
        cfg.seed = secrets.randbelow(2**32)
    if cfg.trainer.accelerator in ("auto", "gpu", "cuda"):
        check_gpu()
    chosen = choose_precision(cfg)
    name_trackers(cfg)
    if is_main_process():
        if chosen is not None:
            log.info("precision       %s", chosen)
        check_trackers(cfg)
    return cfg


def _quieten_lightning() -> None:
    """Keeps Lightning's warnings and drops its advertisements and what the plan says better."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logger = logging.getLogger(name)
        logger.handlers.clear()  # its own; messages still reach ours
        logger.setLevel(logging.WARNING)
    for message in (
        r"Found \d+ module\(s\) in eval mode",  # the averaged generator, on purpose
        "The number of training batches .* logging interval",  # rows are due by iteration
        "You're resuming from a checkpoint that ended before the",  # exactly: see ExactResume
        "Be aware that when using `ckpt_path`",  # a time limit that a resumed run has no more
        r"The \.grad attribute of a Tensor that is not a leaf",  # torch.compile looks at fakes
        r".*isinstance\(treespec, LeafSpec\)",  # Lightning 2.6 against torch 2.14
    ):
        warnings.filterwarnings("ignore", message)


def name_trackers(cfg: DictConfig) -> None:
    """Gives runs in trackers their ids, groups and job types, so that the config records them.

    The jobs of a sweep share its folder's name as their group, and are of the type `sweep`; a run
    alone is of the type `train`. Of a run that an agent of W&B started, its server knows the id and
    the group.
    """
    sweep = os.environ.get(SWEEP) or None
    for node in (cfg.get("logger") or {}).values():
        if not isinstance(node, DictConfig) or "id" not in node:
            continue
        of_agent = "WANDB_SWEEP_ID" in os.environ and "entity" in node
        if of_agent:
            node.id = os.environ.get("WANDB_RUN_ID")
        left_open = {
            "id": secrets.token_hex(4),
            "group": None if of_agent else sweep,
            "job_type": "sweep" if sweep or of_agent else "train",
        }
        for name, value in left_open.items():
            if node.get(name, "") is None:
                node[name] = value


def _threads(cfg: DictConfig) -> int | None:
    """Returns the CPU threads of this process; `None`: as many as torch takes."""
    own: int | None = cfg.trainer.threads
    processes = cfg.trainer.devices if cfg.trainer.accelerator == "cpu" else 1
    if own is None and isinstance(processes, int) and processes > 1:
        return max(1, (int(os.environ.get(CORES, 0)) or core_count()) // processes)
    return own


@dataclass(frozen=True)
class Parts:
    """What trains, before there is a Trainer."""

    folder: RunFolder
    datamodule: LightningDataModule
    gan: GAN
    shape: tuple[int, int, int]
    source_shape: tuple[int, int, int] | None
    classes: tuple[str, ...]
    texts: TextFacts | None
    sample: dict[str, Any] | None
    start: Start
    scores: ScorePlan | None  # of the main process


def _build_parts(cfg: DictConfig) -> Parts:
    """Builds data and networks, and finds out whether they fit each other and the start."""
    folder = RunFolder(cfg)
    start = Start.of(cfg, folder.path)
    datamodule = build_data(cfg, cfg.seed)
    classes = classes_of(cfg, datamodule)
    shape, batch = image_shape_of(datamodule, classes)
    sources = source_shape_of(datamodule)
    texts = texts_of(cfg, datamodule)
    gan = build_gan(cfg, shape, cfg.seed, classes, sources, texts)
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
            attempt(gan.task.setup, datamodule)
            attempt(check_epoch, datamodule, gan, cfg.trainer)
            sampler = gan.task.sampler(gan.generator)
            translates = isinstance(sampler, Translator)
            scores = attempt(plan_scores, cfg, datamodule, sampler.condition, translates)
            if scores is not None:
                attempt(check_awaited, cfg, scores, gan)
    start.load_weights(gan)
    start.check_same_images(shape, sample)
    return Parts(folder, datamodule, gan, shape, sources, classes, texts, sample, start, scores)


def _log_plan(cfg: DictConfig, parts: Parts, trainer: Trainer) -> None:
    if parts.scores is None:
        return
    for line in describe_plan(parts.gan, parts.datamodule, trainer, parts.folder.path, parts.shape):
        log.info(line)
    if cfg.compile:
        log.info("compile         both networks, but D under gradient penalties; it takes a while")
    log.info("scores          %s", parts.scores.line)
    for line in parts.start.describe():
        log.info("start           %s", line)


def _build_callbacks(
    cfg: DictConfig, parts: Parts
) -> tuple[Interrupts, ScoreCallback | None, Compilation | None, list[Callback]]:
    """Builds what a run has beside its config's callbacks: some by themselves, and all of them."""
    interrupts, scores = Interrupts(), build_scores(cfg, parts.datamodule, parts.scores)
    compilation = Compilation(interrupts) if cfg.compile else None
    facts = parts.shape, parts.classes, parts.sample, parts.source_shape, parts.texts
    record = RecordInCheckpoint(parts.folder, *facts)
    callbacks: list[Callback] = [record, ExactResume(), interrupts]
    callbacks += [c for c in (scores, compilation, build_pruning(cfg)) if c is not None]
    return interrupts, scores, compilation, callbacks


def _train(cfg: DictConfig, parts: Parts, agreed: Agreed) -> dict[str, float]:
    """Trains in the run's folder, which no other process does meanwhile."""
    folder, start = parts.folder, parts.start
    loggers = build_loggers(cfg, folder.path, start.iteration if folder.resumed else None)
    interrupts, scores, compilation, callbacks = _build_callbacks(cfg, parts)
    trainer = build_trainer(cfg, folder.path, loggers, callbacks)
    _log_plan(cfg, parts, trainer)
    start.check_unfinished(trainer, cfg.trainer.max_time)
    device = trainer.strategy.root_device

    def mark_failed(reason: str) -> None:
        folder.mark("failed", reason, trainer.global_step)

    with watched_process_group(agreed.met, device, mark_failed), interrupts:
        if is_main_process():
            if start.checkpoint is not None:
                set_damaged_aside(folder.path, start.checkpoint)
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
    last = {} if scores is None else scores.last
    return metrics | {f"val/{key}": value for key, value in last.items()}


def _log_hyperparams(folder: RunFolder, loggers: list[Logger]) -> None:
    chosen = {f"choice_{group}": name for group, name in folder.choices.items()}
    for logger in loggers:
        logger.log_hyperparams(folder.config | chosen | {"environment": folder.environment})


def _say_what_follows(folder: RunFolder, command: Command) -> None:
    """Names the last pictures and, but in a sweep, the commands that one may type next."""
    last_grid = folder.path / "samples" / "last.png"
    if last_grid.is_file():
        log.info("samples         %s", near(last_grid))
    if not os.environ.get(SWEEP):
        overrides = [setting("run", near(folder.path)), *trusting(trust_in(folder.config))]
        following = [command.typed(script, *overrides) for script in ("evaluate", "generate")]
        print("\n  ".join(["next:", *following]), flush=True)
