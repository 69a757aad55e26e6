"""From a checked config to objects: data, networks, loss, GAN, loggers, callbacks, Trainer.

Facts pass from object to object here (the image shape from the data, the penalty from the loss);
nothing below this package sees a config.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lightning import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import AdvancedProfiler, SimpleProfiler
from omegaconf import DictConfig, OmegaConf
from torch import nn

from forger.app.config.sections import SCRIPTS
from forger.app.config.source import TargetError
from forger.app.run.compilation import Compilation
from forger.app.run.instantiate import all_refusals, instantiate, takes, target_of
from forger.app.run.record import RecordInCheckpoint
from forger.app.run.scoring import ScorePlan, build_scores
from forger.callbacks.exact_resume import ExactResume
from forger.callbacks.interrupts import Interrupts
from forger.callbacks.pruning import Pruning
from forger.callbacks.scores import ScoreCallback
from forger.checkpoints.writing import WholeCheckpointIO
from forger.data import GroupedDataModule, ImageDataModule
from forger.data.own_module import first_images
from forger.errors import ConfigError, install_command
from forger.gan import GAN
from forger.loggers import MetricsCSV, Tracker
from forger.losses import AdversarialLoss
from forger.updates import OptimizerFactory, Updates

DEFAULT_EPOCHS = 20
PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler}


def build_data(cfg: DictConfig, seed: int) -> LightningDataModule:
    """Builds the data module; ours, and one that asks, is given the run's seed."""
    runtime = {"seed": seed} if takes(target_of(cfg.data), "seed") else {}
    datamodule: LightningDataModule = instantiate(cfg.data, LightningDataModule, **runtime)
    if isinstance(datamodule, ImageDataModule):
        datamodule.seed = seed  # whatever a function of the user's has made of it
    return datamodule


def image_shape_of(datamodule: LightningDataModule) -> tuple[tuple[int, int, int], int | None]:
    """Returns channels, height and width, and how many images the first batch holds.

    It is looked at where the data module is a user's own; of ours the settings tell the number, and
    None is returned.

    Raises:
        ConfigError: the module tells another shape than its batches have, or gives no batch.
        DataError: the batch holds no images `(B, C, H, W)` in [-1, 1].
    """
    if isinstance(datamodule, ImageDataModule):
        return datamodule.image_shape, None
    told = getattr(datamodule, "image_shape", None)
    batch, channels, height, width = first_images(datamodule).shape
    shape = (channels, height, width)
    if told is not None and (not isinstance(told, Sequence) or tuple(told) != shape):
        raise ConfigError(
            f"data={type(datamodule).__name__}: its image_shape is {told}, and its first batch"
            f" holds images {shape}"
        )
    return shape, batch


def build_discriminator(
    cfg: DictConfig, loss: AdversarialLoss | None, image_shape: tuple[int, int, int]
) -> nn.Module:
    """Builds the discriminator; one that asks is told whether the loss penalises gradients."""
    node = cfg.model.discriminator
    runtime: dict[str, Any] = {"image_shape": image_shape}
    if takes(target_of(node), "gradient_penalty"):
        runtime["gradient_penalty"] = loss is not None and bool(loss.penalties)
    discriminator: nn.Module = instantiate(node, nn.Module, **runtime)
    return discriminator


def make_optimizer(node: DictConfig) -> OptimizerFactory:
    """Builds what makes an optimizer; torch refuses whole numbers such as the 0 of `betas`."""
    floats = {"betas": [float(beta) for beta in node.betas]} if "betas" in node else {}
    factory: OptimizerFactory = instantiate(node, **floats)
    return factory


def build_loss(cfg: DictConfig) -> AdversarialLoss:
    """Builds the loss, a function of the user's without those of our settings that it lacks."""
    target, offered = target_of(cfg.loss), SCRIPTS["train"].section("loss").neutral
    settings: Any = OmegaConf.to_container(cfg.loss, resolve=True)
    for name, value in offered.items():
        if name in settings and settings[name] == value and not takes(target, name):
            del settings[name]
    loss: AdversarialLoss = instantiate(settings, AdversarialLoss, "loss")
    return loss


def build_updates(cfg: DictConfig, network: str) -> Updates:
    """Builds what updates one network."""
    return Updates(
        optimizer=make_optimizer(cfg.optimizer[network]),
        schedule=instantiate(cfg.schedule[network], Callable),
        gradient_clip=cfg.model.gradient_clip[network],
        accumulate=cfg.model.accumulate[network],
    )


def build_gan(cfg: DictConfig, image_shape: tuple[int, int, int], seed: int) -> GAN:
    """Builds both networks, the loss and the module that trains them."""
    with all_refusals() as attempt:
        loss = attempt(build_loss, cfg)
        updates = {
            f"{network}_updates": attempt(build_updates, cfg, network)
            for network in ("generator", "discriminator")
        }
        node = cfg.model.generator
        generator = attempt(instantiate, node, nn.Module, image_shape=image_shape)
        discriminator = attempt(build_discriminator, cfg, loss, image_shape)
    return GAN(
        generator=generator,
        discriminator=discriminator,
        loss=loss,
        prior=cfg.model.prior,
        ema_decay=cfg.model.ema_decay,
        share_fakes=cfg.model.get(
            "share_fakes", False
        ),  # runs of earlier versions have no such key
        seed=seed,
        **updates,
    )


def group_batches(datamodule: LightningDataModule, gan: GAN, seed: int) -> LightningDataModule:
    """Lets a data module of the user's own serve iterations, and go on inside an epoch; ours do."""
    if isinstance(datamodule, ImageDataModule):
        return datamodule
    return GroupedDataModule(datamodule, gan.batches_per_iteration, seed)


def build_loggers(cfg: DictConfig, folder: Path, resume_at: int | None = None) -> list[Logger]:
    """Builds the CSV logger, always, and the trackers that were asked for.

    Args:
        cfg: of the run.
        folder: of the run.
        resume_at: completed iterations of a run that goes on: what was logged after them will be
            logged again, and must not stand there twice.
    """
    table = MetricsCSV(folder)
    if resume_at is not None:
        table.rewind(resume_at)
    return [table, *(make_tracker(node, folder, resume_at) for node in tracker_nodes(cfg))]


def tracker_nodes(cfg: DictConfig) -> list[DictConfig]:
    """Returns the parts of `logger` that become trackers."""
    nodes = (cfg.get("logger") or {}).values()
    return [node for node in nodes if isinstance(node, DictConfig) and "_target_" in node]


def check_trackers(cfg: DictConfig) -> None:
    """Finds what keeps a tracker from starting, before there is any work to lose.

    Raises:
        ConfigError: there is no key, or no package.
    """
    for node in tracker_nodes(cfg):
        tracker = target_of(node)
        if isinstance(tracker, type) and issubclass(tracker, Tracker):
            tracker.check(node)


def make_tracker(node: DictConfig, folder: Path, resume_at: int | None) -> Logger:
    """Builds a tracker that writes into the run's folder.

    Raises:
        ConfigError: its package is not installed.
    """
    name, target = str(node._get_full_key(None)).rpartition(".")[2], target_of(node)
    runtime: dict[str, Any] = {"save_dir": str(folder)}
    if isinstance(target, type) and issubclass(target, Tracker):
        runtime["resume_at"] = resume_at
    try:
        tracker: Logger = instantiate(node, Logger, **runtime)
    except TargetError as error:
        known = error.target.startswith(("forger.", "lightning."))
        if not known or not isinstance(error.__cause__, ImportError):
            raise
        raise ConfigError(
            f"logger={name}: {error.__cause__}; install it, for example: {install_command(name)}"
        ) from None
    return tracker


def build_pruning(cfg: DictConfig) -> Pruning | None:
    """Builds what reports to the search that the run is a trial of; `None` where there is none.

    Raises:
        ConfigError: `sweep.trial` is not what a search writes, or Optuna is not installed.
    """
    node = OmegaConf.select(cfg, "sweep.trial")
    if node is None:
        return None
    if not isinstance(node, DictConfig) or set(node) != {"storage", "study", "number", "metric"}:
        raise ConfigError(
            "sweep.trial: is filled in by hydra/sweeper=optuna; leave it out of the command"
        )
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError(f"sweep.trial: needs Optuna; {install_command('optuna')}")
    from forger.trials import open_trial  # imports Optuna, which is an extra

    trial = partial(open_trial, str(node.storage), str(node.study), int(node.number))
    return Pruning(str(node.metric), trial)


@dataclass(frozen=True)
class RunCallbacks:
    """The callbacks that a run has beside those of its config.

    Attributes:
        interrupts: heeds signals.
        scores: scores the run while it trains; `None`: it is not scored.
        compilation: compiles the networks; `None`: they stay as they are.
        all: of them, and those that record the run, let it go on exactly, and report to a search.
    """

    interrupts: Interrupts
    scores: ScoreCallback | None
    compilation: Compilation | None
    all: list[Callback]


def build_callbacks(
    cfg: DictConfig,
    record: RecordInCheckpoint,
    datamodule: LightningDataModule,
    plan: ScorePlan | None,
) -> RunCallbacks:
    """Builds what every run has, and what its scores, `compile` and a search ask for.

    Args:
        cfg: of the run.
        record: puts what rebuilds the networks into checkpoints.
        datamodule: of the run.
        plan: of its scores; `None` in processes other than the first.
    """
    interrupts, scores = Interrupts(), build_scores(cfg, datamodule, plan)
    compilation = Compilation(interrupts) if cfg.compile else None
    asked = [scores, compilation, build_pruning(cfg)]
    own: list[Callback] = [
        record,
        ExactResume(),
        interrupts,
        *(one for one in asked if one is not None),
    ]
    return RunCallbacks(interrupts, scores, compilation, own)


def build_trainer(
    cfg: DictConfig, folder: Path, loggers: list[Logger], extra: list[Callback]
) -> Trainer:
    """Builds the Trainer with the run's folder, loggers and callbacks."""
    settings: Any = OmegaConf.to_container(cfg.trainer, resolve=True)
    del settings["threads"]  # ours, see forger.app.distributed.launch
    if settings["max_epochs"] is settings["max_time"] is None and settings["max_steps"] == -1:
        settings["max_epochs"] = DEFAULT_EPOCHS
    if settings.get("profiler") in PROFILERS:
        settings["profiler"] = PROFILERS[settings["profiler"]](filename="profile")  # in the folder
    callbacks: list[Callback] = [
        instantiate(node, Callback)
        for node in (cfg.get("callbacks") or {}).values()
        if node is not None
    ]
    trainer: Trainer = instantiate(
        settings,
        Trainer,
        "trainer",
        default_root_dir=str(folder),
        logger=loggers,
        callbacks=[*extra, *callbacks],
        enable_progress_bar=any(isinstance(c, ProgressBar) for c in callbacks),
        enable_model_summary=False,  # the plan says more
        enable_checkpointing=any(isinstance(c, Checkpoint) for c in [*extra, *callbacks]),
        limit_val_batches=0,
        num_sanity_val_steps=0,
        plugins=[*(settings.pop("plugins", None) or []), WholeCheckpointIO()],
    )
    return trainer
