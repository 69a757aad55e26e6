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
    extractor: FeatureExtractor = instantiate(metrics.features, FeatureExtractor).to(device)
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


def check_scorable(
    metrics: DictConfig, data: ImageDataModule, cache_dir: Path, *, floor: bool
) -> tuple[FeatureExtractor, int, str | None]:
    """Finds out, before any work, whether the data can be scored by these settings.

    Args:
        metrics: the settings.
        data: both of its splits are read.
        cache_dir: where a classifier may be.
        floor: whether real images are scored too, as many as are generated.

    Returns:
        The extractor, not prepared; how many images to generate; and what has to be trained or
        downloaded first, if anything.

    Raises:
        UserError: it cannot: there are no labels, too few images, none held out and so on.
    """
    extractor: FeatureExtractor = instantiate(metrics.features, FeatureExtractor)
    to_do = extractor.to_do(data, cache_dir)
    num_fake: int = metrics.num_fake or usual_count(data, metrics.reference)
    counts = {"num_real": metrics.num_real, "num_fake": num_fake, "floor": floor}
    check_counts(data, _settings(metrics), reference=metrics.reference, **counts)
    return extractor, num_fake, to_do


def _settings(metrics: DictConfig) -> ScoreSettings:
    return ScoreSettings(**{field.name: metrics[field.name] for field in fields(ScoreSettings)})


@dataclass(frozen=True)
class ScorePlan:
    """Whether a run scores itself, known before it trains.

    Attributes:
        line: of the plan.
        columns: of the scores of features in `metrics.csv`, the FID first; empty: the run does not
            score itself.
    """

    line: str
    columns: tuple[str, ...] = ()


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
    asked, cache_dir = asked or datamodule.scores_by_default, Path(cfg.paths.cache_dir)
    try:
        extractor, num_fake, to_do = check_scorable(metrics, datamodule, cache_dir, floor=False)
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
        tuple(score_columns(extractor.prefix, extractor.score_name)),
    )


def build_scores(
    cfg: DictConfig, datamodule: LightningDataModule, plan: ScorePlan | None
) -> ScoreCallback | None:
    """Builds the callback that scores while training, if the settings ask for it.

    The plan is None in processes other than the first, which decides for all.
    """
    metrics = cfg.get("metrics")
    if not metrics or not isinstance(datamodule, ImageDataModule):
        return None
    return ScoreCallback(
        partial(build_evaluator, metrics, datamodule, Path(cfg.paths.cache_dir)),
        wanted=plan is not None and bool(plan.columns),
        every_n_steps=metrics.every_n_steps,
        num_fake=metrics.num_fake,
        weights=metrics.weights,
        seed=metrics.seed,
        keep_best=(cfg.get("callbacks") or {}).get("checkpoint") is not None,
    )


def check_awaited(cfg: DictConfig, plan: ScorePlan, loss: AdversarialLoss) -> None:
    """Finds out whether the metric that a search or a callback waits for will be logged.

    Raises:
        ConfigError: it will not. Callbacks of the user's own may log anything.
    """
    callbacks = {k: node for k, node in (cfg.get("callbacks") or {}).items() if node is not None}
    targets = [str(node.get("_target_")) for node in callbacks.values()]
    if not all(target.startswith(("forger.", "lightning.")) for target in targets):
        return
    awaited = {} if cfg.objective is None else {"objective": cfg.objective}
    for name, node in callbacks.items():
        found = {key: node[key] for key in ("metric", "monitor") if key in node}
        awaited |= {f"callbacks.{name}.{key}": metric for key, metric in found.items()}
    relative = RELATIVE if loss.boundary is None else ""
    of_loss = [f"{relative}{name}" for name in RATES]
    of_loss += [f"penalty_{name}" for name in loss.penalties]
    for key, metric in awaited.items():
        side, _, name = (metric or "val/").partition("/")  # None: the FID
        if side == "val" and not plan.columns:
            reason = f"this run does not score itself: {plan.line.removeprefix('none: ')}"
            raise ConfigError(f"{given(key, metric)}: is a score, and {reason}")
        if side == "val" and name and not name.startswith("d_") and metric not in plan.columns:
            raise ConfigError(f"{given(key, metric)}: no such score{choice(metric, plan.columns)}")
        looks_so = name.removeprefix(RELATIVE) in RATES or name.startswith("penalty_")
        if side == "train" and looks_so and name not in of_loss:
            known = [f"train/{one}" for one in of_loss]
            raise ConfigError(f"{given(key, metric)}: this loss has none{choice(metric, known)}")
