"""From the `metrics` settings to a scorer. Owns which settings become which object."""

from __future__ import annotations

import functools
import logging
from pathlib import Path

import torch
from lightning import LightningDataModule
from omegaconf import DictConfig

from forger.callbacks.scores import Scores
from forger.data import ImageDataModule
from forger.errors import ConfigError, UserError
from forger.metrics.extractor import FeatureExtractor
from forger.metrics.scorer import DEFAULT_FAKES, Scorer
from forger.metrics.settings import ScoreSettings
from forger.runs.making import make

log = logging.getLogger(__name__)

SETTINGS = ("k", "kid_subsets", "kid_subset_size", "splits", "neighbour_images", "seed")


def build_scorer(
    metrics: DictConfig, data: ImageDataModule, cache_dir: Path, device: torch.device
) -> Scorer:
    """Prepares the extractor, which may train it, and builds the scorer.

    Raises:
        UserError: the extractor cannot be had for this data, or a number does not fit it.
    """
    extractor: FeatureExtractor = make(metrics.features)
    extractor.to(device)
    extractor.prepare(data, cache_dir)
    return Scorer(
        extractor,
        data,
        ScoreSettings(**{name: metrics[name] for name in SETTINGS}),
        reference=metrics.reference,
        num_real=metrics.num_real,
        cache_dir=cache_dir,
        device=device,
    )


def build_scores(cfg: DictConfig, datamodule: LightningDataModule) -> Scores | None:
    """Builds the callback that scores while training, if the settings ask for it.

    Raises:
        ConfigError: scores were asked for, and the data cannot be scored.
    """
    metrics = cfg.get("metrics")
    if not metrics:
        return None
    if not isinstance(datamodule, ImageDataModule):
        if metrics.when == "ready":
            return None
        raise ConfigError(
            f"data._target_={cfg.data._target_}: scores need a data set derived from"
            " forger.data.ImageDataModule; write metrics=none"
        )
    cache_dir = Path(cfg.paths.cache_dir)
    checkpoints = (cfg.get("callbacks") or {}).get("checkpoint")
    return Scores(
        functools.partial(build_scorer, metrics, datamodule, cache_dir),
        wanted=functools.partial(wanted, metrics, datamodule, cache_dir),
        every_n_steps=metrics.every_n_steps,
        num_fake=metrics.num_fake or DEFAULT_FAKES,
        weights=metrics.weights,
        seed=metrics.seed,
        keep_best=checkpoints is not None,
    )


def describe_scores(cfg: DictConfig) -> str:
    """Returns the plan's line about scores."""
    metrics = cfg.get("metrics")
    if not metrics:
        return "none"
    extractor = str(metrics.features._target_).rpartition(".")[2].lower()
    condition = "" if metrics.when == "always" else "; see metrics.when"
    return (
        f"every {metrics.every_n_steps:,} iterations, {metrics.num_fake or DEFAULT_FAKES:,}"
        f" {metrics.weights} images against {metrics.reference}, {extractor} features{condition}"
    )


def wanted(metrics: DictConfig, data: ImageDataModule, cache_dir: Path) -> bool:
    """Tells whether a run scores itself, and logs why not.

    With `metrics.when=ready` it does where the data set is scored by default, or where nothing has
    to be trained for it.
    """
    if metrics.when == "always" or data.scores_by_default:
        return True
    extractor: FeatureExtractor = make(metrics.features)
    try:
        if extractor.ready(data, cache_dir):
            return True
        reason = f"the {extractor.name} for this data would have to be trained first"
    except UserError as error:
        reason = str(error)
    log.info("scores          off: %s; metrics=quick turns them on", reason)
    return False
