"""`evaluate(cfg)` scores finished runs, and writes and shows what came out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from types import SimpleNamespace
from typing import Any

import torch
from lightning import seed_everything
from omegaconf import DictConfig, OmegaConf

from forger.app.config.messages import near
from forger.app.config.trust import is_in_use, is_named, links_out_of, named
from forger.app.run.build import build_data
from forger.app.run.devices import pick_device, threads
from forger.app.run.load import LoadedRun, Run, load_run, refuse_untrusted
from forger.app.run.protocol import record_of, refuse_another, repeated
from forger.app.run.scoring import build_evaluator, check_scorable, lacking_by_class
from forger.app.run.tables import compare, print_scores
from forger.data import ImageDataModule
from forger.data.other_way import OtherWay
from forger.errors import ConfigError, UserError
from forger.metrics import figures
from forger.metrics.evaluator import Evaluation, Evaluator
from forger.metrics.extractor import ImageData
from forger.metrics.judging import Judge
from forger.metrics.neighbours import nearest
from forger.metrics.text_matching import TextMatcher
from forger.metrics.usefulness import check_useful, classification_accuracies
from forger.sampling.sampler import CHUNK, Sampler, chunk_sizes
from forger.sampling.translator import Translator
from forger.score_names import R_PRECISION
from forger.whole_files import write_json, write_whole

log = logging.getLogger(__name__)

DEFAULT_CACHE = Path(".cache/forger")  # as in configs/paths/default.yaml
SAMPLES, NEIGHBOURS = 12, 6  # whose nearest training images are shown, and how many of them
LOOKED_AT = 1_000  # for the grid per class


def evaluate(
    cfg: DictConfig, on_scored: Callable[[Path], object] = lambda _: None
) -> list[dict[str, Any]]:
    """Scores one run or several, and writes `scores.json` and figures into each run's folder.

    Args:
        cfg: composed from `configs/evaluate.yaml`.
        on_scored: is called with the folder of each run, once its scores are written.

    Returns:
        The content of each `scores.json`.

    Raises:
        UserError: a run cannot be rebuilt, or scored so; no score of that run is written then.
    """
    cfg, protocol = (cfg, None) if cfg.protocol is None else repeated(cfg)
    seed_everything(0, workers=True, verbose=False)
    names = [cfg.run] if isinstance(cfg.run, str) else list(cfg.run)
    trust, moved = cfg.get("trust") or (), cfg.get("moved")
    runs = [load_run(name, cfg.checkpoint, trust, moved) for name in names]
    with threads(cfg.threads):
        records = []
        for run in runs:
            records.append(_evaluate_run(cfg, run, protocol))
            on_scored(run.folder)
    if len(runs) > 1:
        try:
            for path in compare(runs, records):
                log.info("comparison      %s", path)
        except OSError as error:
            log.warning("comparison.md and comparison.csv cannot be written: %s", error)
    return records


def _evaluate_run(
    cfg: DictConfig, run: LoadedRun, protocol: dict[str, Any] | None
) -> dict[str, Any]:
    """Scores one run, writes and shows what came out; `protocol` is one to repeat."""
    cache_dir, device = find_cache_dir(cfg, run), pick_device(cfg.device)
    log.info("run             %s, iteration %s", near(run.checkpoint), f"{run.iteration:,}")
    sampler, task, data = _directed(cfg, run, rebuild_data(cfg, run, cache_dir))
    folder, translates = _make_folder(cfg, run), isinstance(sampler, Translator)
    parts = cfg.metrics, data, cache_dir
    _, num_fake, _ = check_scorable(
        *parts, floor=True, condition=sampler.condition, translates=translates
    )
    if cfg.classification_accuracy:
        check_useful(sampler, data)
    evaluator = build_evaluator(cfg.metrics, data, cache_dir, device)
    if protocol is not None:
        refuse_another(cfg, protocol, evaluator.protocol)
    # first: what it lacks is known before anything is generated
    asked = evaluator.classes_of(sampler), evaluator.sources_of(sampler)
    floor = evaluator.evaluate_floor(num_fake, *asked)
    seed, boundary = cfg.metrics.seed, run.gan.loss.boundary
    found = evaluator.evaluate(sampler, task, num_fake=num_fake, seed=seed, boundary=boundary)
    if cfg.classification_accuracy:
        useful = classification_accuracies(sampler, data, seed, device)
        for evaluation, scores in zip((found, floor), useful, strict=True):
            evaluation.scores.update(scores)
    matcher = None
    if len(set(sampler.condition.prompts)) > 1:
        matcher = TextMatcher(data, cache_dir, device, seed)
        found.scores[R_PRECISION] = matcher.of_generated(sampler, num_fake)
        floor.scores[R_PRECISION] = matcher.of_real(num_fake)
    record = record_of(cfg, run, evaluator, found, floor, num_fake)
    if matcher is not None:
        record["protocol"]["text_matcher"] = matcher.description
    _write_scores(run.folder / f"scores{_suffix(cfg)}.json", record, run)
    _tell_what_lacks(evaluator, sampler, found)
    for name, png in _figures(evaluator, sampler, found, seed, boundary).items():
        write_whole(folder / f"{name}.png", png)
    log.info("figures         %s", near(folder))
    return record


def _write_scores(path: Path, record: dict[str, Any], run: LoadedRun) -> None:
    """Writes the scores, and shows them."""
    write_json(path, record)
    print_scores(record, run)
    log.info("scores          %s", near(path))


def _directed(
    cfg: DictConfig, run: LoadedRun, data: ImageDataModule
) -> tuple[Sampler, Judge, ImageData]:
    """Returns what makes images, what judges them, and the real ones, of the wanted direction.

    Raises:
        ConfigError: there is no way back, or no discriminator of sources.
    """
    task = run.gan.task
    raw = cfg.metrics.weights == "raw"
    sampler = task.sampler(run.gan.generator if raw else run.gan.ema_generator.module)
    if cfg.direction == "a_to_b":
        return sampler, task, data
    if not isinstance(sampler, Translator):
        raise ConfigError("direction=b_to_a: the run does not translate images; leave it out")
    back, critic = sampler.reversed(), getattr(task.discriminator, "of_sources", None)
    if critic is None:
        raise ConfigError("direction=b_to_a: the run's discriminator judges no sources")
    judge: Any = SimpleNamespace(discriminator=critic, judge=task.judge)
    return back, judge, OtherWay(data)


def _suffix(cfg: DictConfig) -> str:
    """Returns what names of files and folders end in, where they are of the way back."""
    return "" if cfg.direction == "a_to_b" else f"_{cfg.direction}"


def _make_folder(cfg: DictConfig, run: LoadedRun) -> Path:
    """Makes the folder of the figures: that it can be written is known before the work."""
    folder = run.folder / f"scores{_suffix(cfg)}"
    if links := links_out_of(folder, cfg.get("trust") or (), run.folder):
        raise UserError(f"run={run.folder}: {links[0]}")
    try:
        folder.mkdir(exist_ok=True)
        with TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"run={run.folder}: scores cannot be written there: {reason}") from error


def find_cache_dir(cfg: DictConfig, run: Run) -> Path:
    """Returns the folder for what is kept: as set, or the run's, where that is in use already."""
    if cfg.paths.cache_dir is not None:
        return Path(cfg.paths.cache_dir)
    recorded = str(run.cfg.paths.cache_dir)
    own = is_in_use("cache_dir", recorded) or is_named(recorded, cfg.get("trust") or ())
    return Path(recorded) if own else DEFAULT_CACHE


def rebuild_data(cfg: DictConfig, run: Run, cache_dir: Path) -> ImageDataModule:
    """Builds the data of a run as it recorded it, apart from where it lies."""
    plain = {"data": OmegaConf.to_container(run.cfg.data)}
    refuse_untrusted(plain, run.checkpoint, named(cfg.get("trust"), cfg.get("moved")), ["data"])
    recorded = OmegaConf.create(plain)
    target = recorded.data._target_
    changes = {key: value for key, value in cfg.data.items() if value is not None}
    if "cache_dir" in recorded.data:
        changes["cache_dir"] = str(cache_dir)
    if recorded.data.get("download") and not is_in_use("root", str(recorded.data.root)):
        changes = {"download": "root" in changes} | changes  # not to where a record says
    for key, value in changes.items():
        if key not in recorded.data:
            raise ConfigError(f"data.{key}={value}: {target} has no such setting; leave it out")
        recorded.data[key] = value
    data = build_data(recorded, run.cfg.seed)
    if not isinstance(data, ImageDataModule):
        needed = "scores need a data set derived from forger.data.ImageDataModule"
        raise UserError(f"{run.checkpoint}: was trained on {target}; {needed}")
    if data.image_shape != run.image_shape:
        reason = f"generates images {run.image_shape}, but the data has {data.image_shape}"
        raise UserError(f"{run.checkpoint}: {reason}; name its own data with data.root=<folder>")
    if run.source_shape not in (None, data.source_shape):
        reason = f"translates sources {run.source_shape}, but the data has {data.source_shape}"
        raise UserError(f"{run.checkpoint}: {reason}; name its own data with data.root=<folder>")
    data.prepare_data()
    return data


def _tell_what_lacks(evaluator: Evaluator, sampler: Sampler, found: Evaluation) -> None:
    """Tells which scores by class a run with a condition does not have, and of which classes."""
    if found.by_class is None:
        return
    classes = evaluator.classes_of(sampler)
    for name, reason in lacking_by_class(evaluator.extractor, classes).items():
        log.info("without %s: %s", name, reason)
    if names := found.by_class.left_out:
        log.warning("intra_fid: less than 2 images of a side are of %s", ", ".join(names))


def _figures(
    evaluator: Evaluator, sampler: Sampler, scored: Evaluation, seed: int, boundary: float | None
) -> dict[str, bytes]:
    """Draws the figures of an evaluation, as PNG by name; `boundary` is that of the loss."""
    seen = []
    sources = evaluator.sources_of(sampler)
    count = LOOKED_AT if sources is None else min(LOOKED_AT, len(sources))
    for number, size in enumerate(chunk_sizes(count)):
        pixels = evaluator.chunk(sampler, number, size, seed)["image"]
        seen.append((pixels, *evaluator.extractor(pixels)))
    images, features, logits = (torch.cat(part).cpu() for part in zip(*seen, strict=True))
    rows = evaluator.data.trained_rows
    database = (evaluator.real("train").features[some] for some in torch.split(rows, CHUNK))
    indices, distances = nearest(features[:SAMPLES], database, min(NEIGHBOURS, len(rows)))
    training = evaluator.data.train_images[rows[indices]]
    neighbours = figures.nearest_neighbours(images[:SAMPLES], training, distances)
    pictures = {
        "confusion_matrix": figures.confusion_matrix(scored.scores, boundary),
        "nearest_neighbours": neighbours,  # is the generator memorising?
    }
    classes, shares = evaluator.extractor.classes, scored.class_shares
    if classes is not None:
        reference = evaluator.reference_shares
        assert shares is not None
        assert reference is not None
        if len(classes) <= figures.MOST_NAMED:
            confidence, predicted = logits.softmax(1).max(1)
            pictures["classes"] = figures.class_grid(images, predicted, confidence, classes)
        pictures["class_histogram"] = figures.class_histogram(shares, reference, classes)
        if (found := scored.by_class) is not None and found.seen is not None:
            asked = figures.asked_classes(found.seen, found.classes, classes)
            pictures["asked_classes"] = asked
    return pictures
