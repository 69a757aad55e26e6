"""Builds what scores a run from its `metrics` settings, and checks them before it trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path

import torch
from lightning import LightningDataModule
from omegaconf import DictConfig, OmegaConf

from forger.app.config.messages import choice, given
from forger.app.config.rules import ALWAYS_LOGGED, logs_more
from forger.app.run.instantiate import instantiate
from forger.callbacks.scores import ScoreCallback
from forger.conditions import Condition
from forger.data import ImageDataModule
from forger.errors import ConfigError, UserError
from forger.gan import GAN
from forger.metrics.by_class import check_labels, keeps_moments
from forger.metrics.evaluator import Evaluator
from forger.metrics.extractor import FeatureExtractor, ImageData
from forger.metrics.prompts import prompt_score_names
from forger.metrics.settings import ScoreSettings, check_counts, images_of, usual_count
from forger.metrics.translations import classes_kept, pair_names
from forger.score_names import BY_CLASS, OF_LOGITS, RATES, RELATIVE, base_of, score_columns


def build_evaluator(
    metrics: DictConfig, data: ImageData, cache_dir: Path, device: torch.device
) -> Evaluator:
    """Prepares the extractor, which may train it, and builds what scores."""
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
    metrics: DictConfig,
    data: ImageData,
    cache_dir: Path,
    *,
    floor: bool,
    condition: Condition | None = None,
    translates: bool = False,
) -> tuple[FeatureExtractor, int, str | None]:
    """Finds out, before any work, whether the data can be scored by these settings.

    With `floor` real images are scored too, as many as are generated; `condition` is that of what
    generates them; a translator makes one of each held-out source, at most. Returns the extractor,
    not prepared; how many images to generate; and what has to be trained or downloaded first, if
    anything. A `UserError` tells what is lacking: labels, images, held-out ones.
    """
    check_labels(data, condition or Condition())
    extractor: FeatureExtractor = instantiate(metrics.features, FeatureExtractor)
    to_do = extractor.to_do(data, cache_dir)
    num_fake: int = metrics.num_fake or usual_count(data, metrics.reference)
    num_fake = min(num_fake, len(data.test_sources)) if translates else num_fake
    counts = {"num_real": metrics.num_real, "num_fake": num_fake, "floor": floor}
    check_counts(data, _settings(metrics), reference=metrics.reference, **counts)
    return extractor, num_fake, to_do


def lacking_by_class(
    extractor: FeatureExtractor, classes: Sequence[str], translates: bool = False
) -> dict[str, str]:
    """Returns why a run has no score of those of `BY_CLASS`, by its name."""
    count, width = len(classes), getattr(extractor, "num_features", 0)
    if not count and translates:
        return dict.fromkeys(BY_CLASS, "sources or images have no labels")
    if not count:
        return dict.fromkeys(BY_CLASS, "the run has no classes; choose condition=label")
    lacking = {}
    if not extractor.prefix or extractor.score_name is None:
        lacking["label_accuracy"] = (
            f"{extractor.name} features know no classes of the data; write"
            " metrics/features=classifier"
        )
    if not keeps_moments(count, width):
        lacking["intra_fid"] = (
            f"{count} classes by {width} {extractor.name} features would take too much memory"
        )
    return lacking


def _settings(metrics: DictConfig) -> ScoreSettings:
    return ScoreSettings(**{field.name: metrics[field.name] for field in fields(ScoreSettings)})


@dataclass(frozen=True)
class ScorePlan:
    """Whether a run scores itself: a line for the log, and the columns of its scores of features.

    The FID is the first of these; without columns the run does not score itself. `lacking` tells
    why there is no score of those by class.
    """

    line: str
    columns: tuple[str, ...] = ()
    lacking: Mapping[str, str] = field(default_factory=dict)


def plan_scores(
    cfg: DictConfig,
    datamodule: LightningDataModule,
    condition: Condition | None = None,
    translates: bool = False,
) -> ScorePlan:
    """Finds out whether the run scores itself, and refuses what was asked for and cannot be.

    With `metrics.when=ready` it does where the data set is scored by default, or where nothing has
    to be trained or downloaded for it. A run that `translates` makes images from others.
    """
    metrics = cfg.get("metrics")
    if not metrics:
        return ScorePlan("none: metrics=none")
    condition = condition or Condition()
    asked = metrics.when == "always" or getattr(datamodule, "scores_by_default", False)
    try:
        if not isinstance(datamodule, ImageDataModule):
            needed = "scores need a data set derived from forger.data.ImageDataModule"
            raise ConfigError(f"data._target_={cfg.data._target_}: {needed}; write metrics=none")
        cache_dir = Path(cfg.paths.cache_dir)
        translates = translates and datamodule.source_shape is not None
        parts = metrics, datamodule, cache_dir
        extractor, num_fake, to_do = check_scorable(
            *parts, floor=False, condition=condition, translates=translates
        )
        classes = condition.classes or (classes_kept(datamodule) if translates else ())
    except UserError as error:
        if asked:
            raise
        return ScorePlan(f"none: {error}")
    if to_do is not None and not asked:
        return ScorePlan(f"none: {to_do}; metrics=quick does that")
    num_real = metrics.num_real or len(images_of(datamodule, metrics.reference))
    lacking = lacking_by_class(extractor, classes, translates)
    without = " and ".join(lacking) if classes else ""
    by_class = [name for name in BY_CLASS if name not in lacking]
    names = extractor.prefix, extractor.score_name
    pairs = pair_names(datamodule.image_shape) if translates and datamodule.paired else ()
    columns = score_columns(*names, by_class, extractor.counts_modes, pairs)
    if condition.prompts:
        columns += [f"val/{name}" for name in prompt_score_names(datamodule, extractor)]
    return ScorePlan(
        f"every {metrics.every_n_steps:,} iterations, {num_fake:,} {metrics.weights} images against"
        f" {num_real:,} {metrics.reference} images, {extractor.name} features"
        + (f"; {to_do}" if to_do else "")
        + (f"; without {without}" if without else ""),
        tuple(columns),
        lacking,
    )


def build_scores(
    cfg: DictConfig, datamodule: LightningDataModule, plan: ScorePlan | None
) -> ScoreCallback | None:
    """Builds the callback that scores while training; the first process, with a plan, decides."""
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


def columns_of(gan: GAN) -> list[str]:
    """Returns what a GAN logs while it trains, and its D's scores, by the names of the columns."""
    relative = RELATIVE if gan.loss.boundary is None else ""
    rates = [f"{relative}{rate}" for rate in RATES]
    training = *ALWAYS_LOGGED, *rates, *gan.task.logged_names, *gan.scheduled.logged_names
    judging = *rates, *OF_LOGITS
    return [*(f"train/{name}" for name in training), *(f"val/d_{name}" for name in judging)]


def check_awaited(cfg: DictConfig, plan: ScorePlan, gan: GAN) -> None:
    """Refuses an objective, or a metric that a callback waits for, that will not be logged."""
    callbacks = {k: node for k, node in (cfg.get("callbacks") or {}).items() if node is not None}
    unscored = f"this run does not score itself: {plan.line.removeprefix('none: ')}"
    for name, node in callbacks.items():
        key, keep = f"callbacks.{name}.keep", node.get("keep")
        ours = node.get("_target_") == "forger.callbacks.Checkpoint"
        if ours and isinstance(keep, int) and not plan.columns:
            best = f"keeps the best by FID, and {unscored}; or write {key}=all"
            raise ConfigError(f"{given(key, keep)}: {best}")
    targets = [str(node.get("_target_")) for node in callbacks.values()]
    if not all(target.startswith(("forger.", "lightning.")) for target in targets):
        return  # those of the user's own may log anything
    awaited = {} if cfg.objective is None else {"objective": cfg.objective}
    for name, node in callbacks.items():
        found = {key: node[key] for key in ("metric", "monitor") if key in node}
        awaited |= {f"callbacks.{name}.{key}": metric for key, metric in found.items()}
    known, open_ended = [*plan.columns, *columns_of(gan)], logs_more(partial(OmegaConf.select, cfg))
    for key, metric in awaited.items():
        side, _, name = (metric or "val/").partition("/")  # None: the FID
        if side == "val" and not plan.columns:
            raise ConfigError(f"{given(key, metric)}: is a score, and {unscored}")
        checked = name and not (side == "train" and open_ended)
        if checked and metric not in known:
            why = plan.lacking.get(base_of(name))
            kin = plan.columns if side == "val" and not name.startswith("d_") else known
            known_ones = choice(metric, kin) if why is None else f": {why}"
            raise ConfigError(f"{given(key, metric)}: will not be logged{known_ones}")
