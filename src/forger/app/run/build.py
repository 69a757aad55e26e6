"""From a checked config to objects: data, networks, loss, GAN, loggers, callbacks, Trainer.

Facts pass from object to object here (the image shape from the data, the penalty from the loss);
nothing below this package sees a config.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lightning import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import AdvancedProfiler, SimpleProfiler
from omegaconf import DictConfig, OmegaConf

from forger.app.config.sections import SCRIPTS
from forger.app.run.instantiate import all_refusals, instantiate, takes, target_of
from forger.app.run.networks import (
    Shapes,
    build_condition,
    build_discriminators,
    build_generators,
    build_task,
    check_task,
)
from forger.augment import Augment
from forger.callbacks.pruning import Pruning
from forger.checkpoints.writing import WholeCheckpointIO
from forger.conditions import Condition
from forger.data import GroupedDataModule, ImageDataModule
from forger.data.classes import class_names_of
from forger.data.own_module import first_images
from forger.errors import ConfigError, install_command
from forger.gan import GAN
from forger.loggers import MetricsCSV, Tracker
from forger.losses import AdversarialLoss
from forger.schedules import Schedule
from forger.text import TextFacts, text_facts
from forger.updates import Updates

DEFAULT_EPOCHS = 20
PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler}


def build_data(cfg: DictConfig, seed: int) -> LightningDataModule:
    """Builds the data module; ours, and one that asks, is given the run's seed."""
    runtime = {"seed": seed} if takes(target_of(cfg.data), "seed") else {}
    datamodule: LightningDataModule = instantiate(cfg.data, LightningDataModule, **runtime)
    if isinstance(datamodule, ImageDataModule):
        datamodule.seed = seed  # whatever a function of the user's has made of it
    return datamodule


def image_shape_of(
    datamodule: LightningDataModule, classes: Sequence[str] = ()
) -> tuple[tuple[int, int, int], int | None]:
    """Returns channels, height and width, and how many images the first batch of a user's own has.

    Where classes are wanted, that batch must have labels of them.

    Raises:
        UserError: it gives no batch, or one that holds no images `(B, C, H, W)` in [-1, 1].
    """
    if isinstance(datamodule, ImageDataModule):
        return datamodule.image_shape, None
    batch, *shape = first_images(datamodule, len(classes)).shape
    return (shape[0], shape[1], shape[2]), batch


def source_shape_of(datamodule: LightningDataModule) -> tuple[int, int, int] | None:
    """Returns channels, height and width of what images are made from; None: there is nothing."""
    found = getattr(datamodule, "source_shape", None)
    return None if found is None else tuple(found)


def classes_of(cfg: DictConfig, datamodule: LightningDataModule) -> tuple[str, ...]:
    """Returns the names of the data's classes, if the condition or the task wants to know them.

    A task may do without, where the data has none, or one alone.
    """
    wanted, asked = (takes(target_of(part), "classes") for part in (cfg.condition, cfg.task))
    try:
        return class_names_of(datamodule) if wanted or asked else ()
    except ConfigError:
        if wanted:
            raise
        return ()


def texts_of(cfg: DictConfig, datamodule: LightningDataModule) -> TextFacts | None:
    """Returns what the captions of the data are, if the condition is of texts.

    The training images are read for it.
    """
    if not takes(target_of(cfg.condition), "encoder"):
        return None
    if not isinstance(datamodule, ImageDataModule) or datamodule.captions is None:
        raise ConfigError(
            f"condition=text: {cfg.data._target_} has no captions; write data=captioned_mnist, or"
            " data=captioned_folder"
        )
    datamodule.prepare_data()
    datamodule.setup("fit")
    return text_facts(datamodule)


def build_gan(
    cfg: DictConfig,
    image_shape: tuple[int, int, int],
    seed: int,
    classes: Sequence[str] = (),
    source_shape: tuple[int, int, int] | None = None,
    texts: TextFacts | None = None,
) -> GAN:
    """Builds both networks, the loss, the other parts and the module that trains them.

    `classes` are the names of the data's, as `classes_of` returns them, `texts` what `texts_of`
    returns.
    """
    shapes = Shapes(image_shape, source_shape)
    with all_refusals() as attempt:
        loss = attempt(_build_loss, cfg)
        updates = {
            f"{network}_updates": attempt(_build_updates, cfg, network)
            for network in ("generator", "discriminator")
        }
        schedules = attempt(_build_schedules, cfg)
        condition = attempt(build_condition, cfg, classes, texts)
        augment = attempt(instantiate, cfg.augment, Augment)
        facts = shapes, condition or Condition()
        check_task(cfg, *facts, augment)
        generators = attempt(build_generators, cfg, *facts)
        discriminators = attempt(build_discriminators, cfg, *facts, loss)
    return GAN(
        build_task(cfg, generators | discriminators, *facts, loss, augment, classes),
        ema_decay=cfg.model.ema_decay,
        ema_half_life=cfg.model.ema_half_life,
        share_fakes=cfg.model.get("share_fakes"),  # a run of an earlier version has none
        schedules=schedules,
        seed=seed,
        **updates,
    )


def _build_loss(cfg: DictConfig) -> AdversarialLoss:
    """Builds the loss, a function of the user's without those of our settings that it lacks."""
    target, offered = target_of(cfg.loss), SCRIPTS["train"].section("loss").neutral
    settings: Any = OmegaConf.to_container(cfg.loss, resolve=True)
    for name, value in offered.items():
        if name in settings and settings[name] == value and not takes(target, name):
            del settings[name]
    loss: AdversarialLoss = instantiate(settings, AdversarialLoss, "loss")
    return loss


def _build_updates(cfg: DictConfig, network: str) -> Updates:
    node = cfg.optimizer[network]
    # torch refuses whole numbers such as the 0 of `betas`
    floats = {"betas": [float(beta) for beta in node.betas]} if "betas" in node else {}
    return Updates(
        optimizer=instantiate(node, **floats),
        schedule=instantiate(cfg.schedule[network], Callable),
        gradient_clip=cfg.model.gradient_clip[network],
        accumulate=cfg.model.accumulate[network],
    )


def _build_schedules(cfg: DictConfig) -> dict[str, Schedule]:
    """Builds the schedules of other settings than learning rates."""
    nodes = {k: v for k, v in cfg.schedule.items() if k not in ("generator", "discriminator")}
    return {
        str(name): instantiate(node, Callable)
        for name, node in nodes.items()
        if isinstance(node, DictConfig)
    }


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
    return [table, *(_build_tracker(node, folder, resume_at) for node in _tracker_nodes(cfg))]


def _tracker_nodes(cfg: DictConfig) -> list[DictConfig]:
    nodes = (cfg.get("logger") or {}).values()
    return [node for node in nodes if isinstance(node, DictConfig) and "_target_" in node]


def check_trackers(cfg: DictConfig) -> None:
    """Finds what keeps a tracker from starting, such as a missing key, before there is any work."""
    for node in _tracker_nodes(cfg):
        tracker = target_of(node)
        if isinstance(tracker, type) and issubclass(tracker, Tracker):
            tracker.check(node)


def _build_tracker(node: DictConfig, folder: Path, resume_at: int | None) -> Logger:
    target, runtime = target_of(node), dict[str, Any](save_dir=str(folder))
    if isinstance(target, type) and issubclass(target, Tracker):
        runtime["resume_at"] = resume_at
    tracker: Logger = instantiate(node, Logger, **runtime)
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


def build_trainer(
    cfg: DictConfig, folder: Path, loggers: list[Logger], extra: list[Callback]
) -> Trainer:
    """Builds the Trainer with the run's folder, loggers and callbacks."""
    settings: Any = OmegaConf.to_container(cfg.trainer, resolve=True)
    del settings["threads"]  # ours
    if settings["max_epochs"] is settings["max_time"] is None and settings["max_steps"] == -1:
        settings["max_epochs"] = DEFAULT_EPOCHS
    if settings.get("profiler") in PROFILERS:
        settings["profiler"] = PROFILERS[settings["profiler"]](filename="profile")  # in the folder
    nodes = (cfg.get("callbacks") or {}).values()
    callbacks = [*extra, *(instantiate(node, Callback) for node in nodes if node is not None)]
    trainer: Trainer = instantiate(
        settings,
        Trainer,
        "trainer",
        default_root_dir=str(folder),
        logger=loggers,
        callbacks=callbacks,
        enable_progress_bar=any(isinstance(c, ProgressBar) for c in callbacks),
        enable_model_summary=False,  # the plan says more
        enable_checkpointing=any(isinstance(c, Checkpoint) for c in callbacks),
        limit_val_batches=0,
        num_sanity_val_steps=0,
        plugins=[*(settings.pop("plugins", None) or []), WholeCheckpointIO()],
    )
    return trainer
