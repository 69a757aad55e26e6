"""Builds what scores a run from its `metrics` settings, and checks them before it trains."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
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
from forger.metrics.settings import ScoreSettings, check_counts, images_of, usual_count
from forger.score_names import RATES, RELATIVE, score_columns


def build_evaluator(
    metrics: DictConfig, data: ImageDataModule, cache_dir: Path, device: torch.device
) -> Evaluator:
    """Prepares the extractor, which may train it, and builds what scores.

    Raises:
        UserError: the extractor cannot be had for this data, or a number does not fit it.
    """
    extractor = build_extractor(metrics).to(device)
    extractor.prepare(data, cache_dir)
    return Evaluator(
        extractor,
        data,
        _settings(metrics),
        reference=metrics.reference,
        num_real=metrics.num_real,
        cache_dir=cache_dir,
        device=device,
    )


def build_extractor(metrics: DictConfig) -> FeatureExtractor:
    """Builds the extractor that `metrics.features` names, not prepared."""
    extractor: FeatureExtractor = instantiate(metrics.features, FeatureExtractor)
    return extractor


def check_scorable(
    metrics: DictConfig,
    extractor: FeatureExtractor,
    data: ImageDataModule,
    cache_dir: Path,
    *,
    floor: bool,
) -> tuple[int, str | None]:
    """Finds out, before any work, whether the data can be scored by these settings.

    Args:
        metrics: the settings.
        extractor: that they name.
        data: both of its splits are read.
        cache_dir: where a classifier may be.
        floor: whether real images are scored too, as many as are generated.

    Returns:
        How many images to generate, and what has to be trained or downloaded first, if anything.

    Raises:
        UserError: it cannot: there are no labels, too few images, none held out and so on.
    """
    to_do = extractor.to_do(data, cache_dir)
    num_fake: int = metrics.num_fake or usual_count(data, metrics.reference)
    counts = {"num_real": metrics.num_real, "num_fake": num_fake, "floor": floor}
    check_counts(data, _settings(metrics), reference=metrics.reference, **counts)
    return num_fake, to_do


def _settings(metrics: DictConfig) -> ScoreSettings:
    return ScoreSettings(**{field.name: metrics[field.name] for field in fields(ScoreSettings)})


@dataclass(frozen=True)
class ScorePlan:
    """Whether a run scores itself, known before it trains.

    Attributes:
        line: of the plan.
        fid: column of the FID in `metrics.csv`; None: the run does not score itself.
        names: columns of all scores of features.
    """

    line: str
    fid: str | None = None
    names: tuple[str, ...] = ()

    def check_logged(self, key: str, metric: str | None) -> None:
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
            reason = self.line.removeprefix("none: ")
            raise ConfigError(
                f"{given(key, metric)}: is a score, and this run does not score itself: {reason}"
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
        return ScorePlan("none: metrics=none")
    asked = metrics.when == "always"
    if not isinstance(datamodule, ImageDataModule):
        reason = (
            f"data._target_={cfg.data._target_}: scores need a data set derived from"
            " forger.data.ImageDataModule"
        )
        if asked:
            raise ConfigError(f"{reason}; write metrics=none")
        return ScorePlan(f"none: {reason}")
    asked = asked or datamodule.scores_by_default
    extractor, cache_dir = build_extractor(metrics), Path(cfg.paths.cache_dir)
    try:
        num_fake, to_do = check_scorable(metrics, extractor, datamodule, cache_dir, floor=False)
    except UserError as error:
        if asked:
            raise
        return ScorePlan(f"none: {error}")
    if to_do is not None and not asked:
        return ScorePlan(f"none: {to_do}; metrics=quick does that")
    num_real = metrics.num_real or len(images_of(datamodule, metrics.reference))
    return ScorePlan(
        f"every {metrics.every_n_steps:,} iterations, {num_fake:,} {metrics.weights} images against"
        f" {num_real:,} {metrics.reference} images, {extractor.name} features"
        + (f"; {to_do}" if to_do else ""),
        fid=f"val/{extractor.prefix}fid",
        names=tuple(score_columns(extractor.prefix, extractor.score_name)),
    )


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
    return ScoreCallback(
        partial(build_evaluator, metrics, datamodule, Path(cfg.paths.cache_dir)),
        wanted=plan is not None and plan.fid is not None,
        every_n_steps=metrics.every_n_steps,
        num_fake=metrics.num_fake,
        weights=metrics.weights,
        seed=metrics.seed,
        keep_best=(cfg.get("callbacks") or {}).get("checkpoint") is not None,
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
    callbacks = {k: node for k, node in (cfg.get("callbacks") or {}).items() if node is not None}
    for node in callbacks.values():
        if not str(node.get("_target_")).startswith(("forger.", "lightning.")):
            return
    awaited = {} if cfg.objective is None else {"objective": cfg.objective}
    for name, node in callbacks.items():
        found = {key: node[key] for key in ("metric", "monitor") if key in node}
        awaited |= {f"callbacks.{name}.{key}": metric for key, metric in found.items()}
    relative = RELATIVE if loss.boundary is None else ""
    known = [f"train/{relative}{name}" for name in RATES]
    known += [f"train/penalty_{name}" for name in loss.penalties]
    others = {f"train/{kind}{name}" for kind in ("", RELATIVE) for name in RATES}.difference(known)
    for key, metric in awaited.items():
        plan.check_logged(key, metric)
        penalty = str(metric).startswith("train/penalty_")
        if metric in others or (penalty and metric not in known):
            raise ConfigError(f"{given(key, metric)}: this loss has none{choice(metric, known)}")
