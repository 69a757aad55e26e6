"""Builds what scores a run from its `metrics` settings, and checks them before it trains."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning import LightningDataModule
from omegaconf import DictConfig

from forger.app.config.messages import choice, given
from forger.app.run.instantiate import instantiate
from forger.callbacks.scores import ScoreCallback
from forger.data import ImageDataModule
from forger.errors import ConfigError, UserError
from forger.losses import AdversarialLoss
from forger.metrics.evaluator import Evaluator
from forger.metrics.extractor import FeatureExtractor
from forger.metrics.names import RATES, RELATIVE, score_columns
from forger.metrics.settings import ScoreSettings, check_counts, usual_count

SETTINGS = (
    *("precision_k", "coverage_k", "kid_subsets", "kid_subset_size", "splits"),
    *("neighbour_images", "seed"),
)


def score_settings(metrics: DictConfig) -> ScoreSettings:
    """Returns how scores are computed from features."""
    return ScoreSettings(**{name: metrics[name] for name in SETTINGS})


def survey(
    metrics: DictConfig, data: ImageDataModule, cache_dir: Path, *, floor: bool
) -> tuple[int, str | None]:
    """Finds out, before any work, whether the data can be scored by these settings.

    Args:
        metrics: the settings.
        data: both of its splits are read.
        cache_dir: where a classifier may be.
        floor: whether real images are scored too, as many as are generated.

    Returns:
        How many images to generate, and what has to be trained or downloaded first, if anything.

    Raises:
        UserError: it cannot: there are no labels, too few images, none held out and so on.
    """
    extractor: FeatureExtractor = instantiate(metrics.features, FeatureExtractor)
    to_do = extractor.to_do(data, cache_dir)
    num_fake: int = metrics.num_fake or usual_count(data, metrics.reference)
    check_counts(
        data,
        score_settings(metrics),
        reference=metrics.reference,
        num_real=metrics.num_real,
        num_fake=num_fake,
        floor=floor,
    )
    return num_fake, to_do


def build_evaluator(
    metrics: DictConfig, data: ImageDataModule, cache_dir: Path, device: torch.device
) -> Evaluator:
    """Prepares the extractor, which may train it, and builds the evaluator.

    Raises:
        UserError: the extractor cannot be had for this data, or a number does not fit it.
    """
    extractor: FeatureExtractor = instantiate(metrics.features, FeatureExtractor)
    extractor.to(device)
    extractor.prepare(data, cache_dir)
    return Evaluator(
        extractor,
        data,
        score_settings(metrics),
        reference=metrics.reference,
        num_real=metrics.num_real,
        cache_dir=cache_dir,
        device=device,
    )


@dataclass(frozen=True)
class ScorePlan:
    """Whether a run scores itself, known before it trains.

    Attributes:
        line: of the plan.
        fid: column of the FID in `metrics.csv`; None: the run does not score itself.
        names: columns of all scores of features.
        reason: why it does not score itself.
    """

    line: str
    fid: str | None = None
    names: tuple[str, ...] = ()
    reason: str = ""

    def check_metric(self, key: str, metric: str | None) -> None:
        """Finds out whether a score that something waits for will be logged.

        Args:
            key: of the setting that names it.
            metric: its name; None: the FID.

        Raises:
            ConfigError: it will not.
        """
        if metric is not None and not metric.startswith("val/"):
            return
        if self.fid is None:
            raise ConfigError(
                f"{given(key, metric)}: is a score, and this run does not score itself:"
                f" {self.reason}"
            )
        if metric is not None and not metric.startswith("val/d_") and metric not in self.names:
            raise ConfigError(f"{given(key, metric)}: no such score{choice(metric, self.names)}")


def plan_scores(cfg: DictConfig, datamodule: LightningDataModule) -> ScorePlan:
    """Finds out whether the run scores itself, and all that would keep it from that.

    With `metrics.when=ready` it does where the data set is scored by default, or where nothing has
    to be trained or downloaded for it.

    Raises:
        UserError: scores were asked for, and the data cannot be scored by these settings.
    """
    metrics = cfg.get("metrics")
    if not metrics:
        return _off("metrics=none")
    asked = metrics.when == "always"
    if not isinstance(datamodule, ImageDataModule):
        reason = (
            f"data._target_={cfg.data._target_}: scores need a data set derived from"
            " forger.data.ImageDataModule"
        )
        if asked:
            raise ConfigError(f"{reason}; write metrics=none")
        return _off(reason)
    asked = asked or datamodule.scores_by_default
    extractor: FeatureExtractor = instantiate(metrics.features, FeatureExtractor)
    try:
        num_fake, to_do = survey(metrics, datamodule, Path(cfg.paths.cache_dir), floor=False)
    except UserError as error:
        if asked:
            raise
        return _off(str(error))
    if to_do is not None and not asked:
        return _off(f"{to_do}; metrics=quick does that")
    images = datamodule.train_images if metrics.reference == "train" else datamodule.test_images
    return ScorePlan(
        f"every {metrics.every_n_steps:,} iterations, {num_fake:,} {metrics.weights} images against"
        f" {metrics.num_real or len(images):,} {metrics.reference} images, {extractor.name}"
        " features" + (f"; {to_do}" if to_do else ""),
        fid=f"val/{extractor.prefix}fid",
        names=tuple(score_columns(extractor.prefix, extractor.score_name)),
    )


def _off(reason: str) -> ScorePlan:
    return ScorePlan(f"none: {reason}", reason=reason)


def build_scores(
    cfg: DictConfig, datamodule: LightningDataModule, plan: ScorePlan | None
) -> ScoreCallback | None:
    """Builds the callback that scores while training, if the settings ask for it.

    Args:
        cfg: of the run.
        datamodule: its data.
        plan: None in processes other than the first, which decides for all.
    """
    metrics = cfg.get("metrics")
    if not metrics or not isinstance(datamodule, ImageDataModule):
        return None
    checkpoints = (cfg.get("callbacks") or {}).get("checkpoint")
    return ScoreCallback(
        functools.partial(build_evaluator, metrics, datamodule, Path(cfg.paths.cache_dir)),
        wanted=plan is not None and plan.fid is not None,
        every_n_steps=metrics.every_n_steps,
        num_fake=metrics.num_fake,
        weights=metrics.weights,
        seed=metrics.seed,
        keep_best=checkpoints is not None,
    )


def check_awaited(cfg: DictConfig, plan: ScorePlan, loss: AdversarialLoss) -> None:
    """Finds out whether what a search or a callback waits for will be logged.

    Args:
        cfg: of the run.
        plan: of its scores.
        loss: whose penalties, and whose kind of rates, are logged.

    Raises:
        ConfigError: it will not. Callbacks of the user's own may log anything.
    """
    nodes: Mapping[str, DictConfig] = {
        f"callbacks.{name}": node
        for name, node in (cfg.get("callbacks") or {}).items()
        if node is not None
    }
    if not all(
        str(node.get("_target_")).startswith(("forger.", "lightning.")) for node in nodes.values()
    ):
        return
    awaited = {} if cfg.objective is None else {"objective": cfg.objective}
    awaited |= {
        f"{key}.{name}": node[name]
        for key, node in nodes.items()
        for name in ("metric", "monitor")
        if name in node
    }
    relative = RELATIVE if loss.boundary is None else ""
    known = [f"train/{relative}{name}" for name in RATES]
    known += [f"train/penalty_{name}" for name in loss.penalties]
    others = {f"train/{kind}{name}" for kind in ("", RELATIVE) for name in RATES}.difference(known)
    for key, metric in awaited.items():
        plan.check_metric(key, metric)
        penalty = str(metric).startswith("train/penalty_")
        if metric in others or (penalty and metric not in known):
            raise ConfigError(f"{given(key, metric)}: this loss has none{choice(metric, known)}")
