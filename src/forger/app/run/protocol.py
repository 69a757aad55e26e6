"""The protocol of scores: what `scores.json` holds, and how an earlier one is repeated."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

import forger
from forger.app.config.check import check
from forger.app.config.settings import with_absolute_paths
from forger.app.config.trust import named
from forger.app.run.load import LoadedRun, refuse_untrusted
from forger.errors import UserError
from forger.metrics.evaluator import Evaluation, Evaluator

log = logging.getLogger(__name__)

FORMAT = 2  # of scores.json; raise when an older one could not be repeated
_REPEATED = (  # settings that a protocol holds
    *("checkpoint", "direction", "classification_accuracy", "device", "threads", "metrics"),
)


def repeated(cfg: DictConfig) -> tuple[DictConfig, dict[str, Any]]:
    """Returns the settings and the protocol of an earlier evaluation, for this one's run and paths.

    The file may be anybody's.
    """
    path = Path(cfg.protocol).expanduser()
    try:
        content = json.loads(path.read_text())
        protocol, version = content["protocol"], content["format"]
        settings = protocol["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"is not a scores.json of evaluate.py ({type(error).__name__}: {error})"
        raise UserError(f"protocol={path}: {reason}") from error
    if version != FORMAT:
        reason = "was written by another version of forger, and cannot be repeated here"
        raise UserError(f"protocol={path}: {reason}; evaluate the run again without protocol")
    if not isinstance(settings, dict) or settings.keys() - {*_REPEATED}:
        raise UserError(f"protocol={path}: settings may be {', '.join(_REPEATED)}")
    refuse_untrusted(settings, path, named(cfg.get("trust"), cfg.get("moved")), ["metrics"])
    merged = OmegaConf.merge(cfg, settings)
    assert isinstance(merged, DictConfig)
    if features := (settings.get("metrics") or {}).get("features"):
        merged.metrics.features = features  # without settings of other ones
    check(merged, "evaluate")
    return merged, protocol


def refuse_another(cfg: DictConfig, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raises `UserError` where extractor or data are not those of the protocol to repeat."""
    if before.get("random_streams") != now["random_streams"]:
        log.warning("protocol=%s: an earlier version drew other images from a seed", cfg.protocol)
    for part, key in (("extractor", "fingerprint"), ("data", "hash"), ("data", "sources")):
        earlier, found = before[part].get(key), now[part].get(key)
        if earlier != found:
            raise UserError(
                f"protocol={cfg.protocol}: its {part} has the {key} {earlier}, here it is"
                f" {found}; use the paths.cache_dir or data.root of that evaluation"
            )


def record_of(
    cfg: DictConfig,
    run: LoadedRun,
    evaluator: Evaluator,
    found: Evaluation,
    floor: Evaluation,
    num_fake: int,
) -> dict[str, Any]:
    """Returns the content of `scores.json`; the protocol's `settings` alone repeat the scores."""
    size, num_floor = run.cfg.data.get("image_size"), evaluator.floor_count(num_fake)
    hardware = {"device": str(evaluator.device), "threads": torch.get_num_threads()}
    metrics = OmegaConf.to_container(with_absolute_paths(cfg).metrics, resolve=True)
    weights, seed = cfg.metrics.weights, cfg.metrics.seed
    generated = {"count": num_fake, "weights": weights, "seed": seed}
    generated |= {"checkpoint": run.checkpoint.name, "iteration": run.iteration}
    settings = {"checkpoint": cfg.checkpoint, **hardware, "metrics": metrics}
    settings |= {} if cfg.direction == "a_to_b" else {"direction": cfg.direction}
    settings |= {"classification_accuracy": True} if cfg.classification_accuracy else {}
    protocol = {
        **evaluator.protocol,
        "resize": f"to {size}x{size}, bilinear, antialiased" if size else "none",
        "generated": generated,
        "floor": {"split": evaluator.floor_split, "count": num_floor},
        **hardware,
        "versions": {"forger": forger.__version__, "torch": torch.__version__},
        "settings": settings,
    }
    if cfg.direction != "a_to_b":
        protocol["data"]["name"] = f"{str(run.cfg.data._target_).rpartition('.')[2]}, the other way"
    if "label_accuracy" in floor.scores:  # of other images than the rest
        count = len(evaluator.data.test_images)
        protocol["floor"]["label_accuracy"] = {"split": "test", "count": count}
    if evaluator.extractor.counts_modes:
        protocol["floor"]["modes"] = {"split": "test", "count": evaluator.test_count(num_fake)}
    images = {"generated": num_fake, "reference": evaluator.num_real, "floor": num_floor}
    record = {"format": FORMAT, "scores": found.scores, "floor": floor.scores, "images": images}
    if (classes := evaluator.extractor.classes) is not None:
        shares = {"generated": found.class_shares, "reference": evaluator.reference_shares}
        record["class_shares"] = {"classes": classes, **shares}
    if found.by_class is not None and floor.by_class is not None:
        scored = {"generated": found.by_class.of_each, "floor": floor.by_class.of_each}
        record["class_scores"] = {"classes": list(found.by_class.classes), **scored}
    return record | {"protocol": protocol}
