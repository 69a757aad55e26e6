"""What contradicts in a config of train.py and can be told before torch is imported.

A rule yields keys, each with what is wrong with its value and what to write instead. It looks only
at values that have passed the check of types and ranges. What the constructors of networks, losses
and data refuse is theirs to say: a run builds them all before it writes anything.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from forger.app.config.device_rules import DEVICE_RULES
from forger.app.config.messages import choice
from forger.app.config.score_rules import run_refusal
from forger.app.config.source import NotFoundError, locate
from forger.app.config.values import CheckedValues, Findings
from forger.errors import install_command
from forger.score_names import RATES, RELATIVE

_LONGEST = 255  # bytes of a file's name on the usual file systems
_LOGGED = (
    *("loss_g", "loss_d", "d_real", "d_fake", *RATES, *(RELATIVE + rate for rate in RATES)),
    *("grad_norm_g", "grad_norm_d", "lr_g", "lr_d", "images_per_second", "images_seen"),
)
LOGGED = tuple(f"train/{name}" for name in _LOGGED)
"""What training logs: relative rates with losses that have no boundary, plain ones with others."""

_BUILT_LATER = ("val/", "train/penalty_")  # depend on the features and the loss
_AVERAGE = "write model.ema_decay=0.999 for the generator's average"
_FOR_ONE_NETWORK = {  # Lightning's callbacks: what does their work here
    "GradientAccumulationScheduler": "write model.accumulate.generator=<batches>",
    **dict.fromkeys(
        ("StochasticWeightAveraging", "WeightAveraging", "EMAWeightAveraging"), _AVERAGE
    ),
    "BatchSizeFinder": "write data.batch_size=<images>",
    "LearningRateFinder": "sweep instead: -m optimizer.lr=1e-4,2e-4",
    "BackboneFinetuning": "there is no backbone here",
}
_LATE = "looks when an epoch ends, where a score is missing or old; "
_STOPPING = (
    f"{_LATE}write callbacks=early_stopping, and callbacks.early_stopping.metric=<metric> for"
    " another one than the FID"
)
_BEST = f"{_LATE}leave this callback out: checkpoints/best.ckpt is kept by the FID in any case"
_PACKAGES: dict[str, tuple[str, ...]] = {  # of trackers
    **dict.fromkeys(("TensorBoard", "TensorBoardLogger"), ("tensorboard",)),
    **dict.fromkeys(("MLflow", "MLFlowLogger"), ("mlflow",)),
}


def train_rules(select: CheckedValues) -> Findings:
    """Yields what is wrong with a config of train.py as a whole."""
    for rule in (*DEVICE_RULES, *_RULES):
        yield from list(rule(select))  # what it has refused, the next ones do not look at


def _name(select: CheckedValues) -> Findings:
    name = select("name")
    if not isinstance(name, str):
        return
    if not _can_be_made(name) or Path(name).is_absolute() or ".." in Path(name).parts:
        yield "name", "must name a folder below paths.log_dir; write a plain name"


def _folders(select: CheckedValues) -> Findings:
    """Yields folders that cannot be made or written to."""
    for key in ("paths.log_dir", "paths.cache_dir", "paths.data_dir"):
        folder = select(key)
        if not isinstance(folder, str):
            continue
        path = Path(folder).expanduser()
        if not _can_be_made(folder):
            yield key, f"must name a folder; write {key}=<folder>"
            continue
        existing = next((one for one in (path, *path.parents) if one.exists()), None)
        if existing is not None and not existing.is_dir():
            yield key, f"{existing} is a file; write {key}=<folder>"
        elif key == "paths.log_dir" and existing and not os.access(existing, os.W_OK | os.X_OK):
            yield key, f"{existing} cannot be written to; write {key}=<folder>"


def _can_be_made(folder: str) -> bool:
    short = all(len(os.fsencode(part)) <= _LONGEST for part in Path(folder).parts)
    return bool(folder.strip()) and folder.isprintable() and short


def _weights(select: CheckedValues) -> Findings:
    run = select("init_from")
    if isinstance(run, str) and (reason := run_refusal(run, "last", "init_from")):
        yield "init_from", reason


def _environment(_: CheckedValues) -> Findings:
    """Yields variables by which Lightning would change the Trainer unseen."""
    for name in sorted(os.environ):
        if name.startswith("PL_TRAINER_"):
            setting = name.removeprefix("PL_TRAINER_").lower()
            yield (
                f"environment variable {name}",
                f"would change the Trainer unseen; unset it and write trainer.{setting}=<value>",
            )


def _metrics(select: CheckedValues) -> Findings:
    """Yields metrics that something waits for and that training does not log."""
    callbacks = list(_members(select, "callbacks"))
    if not all(
        home.startswith("forger.") or kind == "ModelCheckpoint" for _, home, kind in callbacks
    ):
        return  # callbacks of the user's own may log anything
    for key in (
        "objective",
        *(f"{one}.{name}" for one, *_ in callbacks for name in ("metric", "monitor")),
    ):
        metric = select(key)
        if isinstance(metric, str) and not metric.startswith(_BUILT_LATER) and metric not in LOGGED:
            yield key, "no such metric is logged" + choice(metric, [*LOGGED, "val/fid"])


def _images(select: CheckedValues) -> Findings:
    """Yields a folder of images that is not there, or that runs would write into."""
    root = select("data.root")
    if target_of(select, "data") != "forger.data.folder.ImageFolder":
        return
    if root is None:
        yield "data.root", "is needed; write data.root=<folder of images>"
    if not isinstance(root, str):
        return
    path = Path(root).expanduser().resolve()
    if not path.is_dir():
        yield "data.root", "there is no such folder; write data.root=<folder of images>"
    for key, shown in (("data.cache_dir", "paths.cache_dir"), ("paths.log_dir",) * 2):
        inside = select(key)
        if isinstance(inside, str) and path in Path(inside).expanduser().resolve().parents:
            yield (
                "data.root",
                f"is never written to, and {shown}={inside} lies in it; write {shown}=<a folder"
                " elsewhere>, or data.root=<a folder of images alone>",
            )


def _trainer(select: CheckedValues) -> Findings:
    """Yields flags of the Trainer of which one makes another void, or that change nothing."""
    for unit in ("steps", "epochs"):
        least, most = select(f"trainer.min_{unit}"), select(f"trainer.max_{unit}")
        if least is not None and most not in (None, -1) and least > most:
            yield f"trainer.min_{unit}", f"is above trainer.max_{unit}={most}"
    if select("trainer.limit_train_batches") is not None and select("trainer.overfit_batches"):
        yield "trainer.limit_train_batches", "is ignored with trainer.overfit_batches; leave it out"
    if select("trainer.benchmark") is True and select("trainer.deterministic") is True:
        yield "trainer.benchmark", "makes trainer.deterministic=true void; leave one of them out"
    if not target_of(select, "data").startswith("forger.data."):
        return
    for key in ("trainer.use_distributed_sampler", "trainer.reload_dataloaders_every_n_epochs"):
        if select(key) is not None:
            yield (
                key,
                "changes nothing: this data set shares its images among processes and draws their"
                " order anew in each epoch; leave it out",
            )


def _callbacks(select: CheckedValues) -> Findings:
    """Yields Lightning's callbacks for one network and one optimizer, and a second bar."""
    has_bar = select("callbacks.progress") is not None
    for key, home, kind in _members(select, "callbacks"):
        if not home.startswith("lightning."):
            continue
        if kind in _FOR_ONE_NETWORK:
            yield f"{key}._target_", f"cannot serve two networks; {_FOR_ONE_NETWORK[kind]}"
        elif kind == "EarlyStopping":
            yield f"{key}._target_", _STOPPING
        elif kind == "ModelCheckpoint" and str(select(f"{key}.monitor")).startswith("val/"):
            yield f"{key}.monitor", _BEST
        elif kind.endswith("ProgressBar") and has_bar and key != "callbacks.progress":
            yield f"{key}._target_", "would be a second bar; write callbacks.progress=null too"


def _loggers(select: CheckedValues) -> Findings:
    """Yields trackers of ours and Lightning's whose packages are not installed."""
    for key, home, kind in _members(select, "logger"):
        known = home.startswith(("forger.", "lightning."))
        needed = _PACKAGES.get(kind, ()) if known else ()
        remote = select(f"{key}.tracking_uri") or "MLFLOW_TRACKING_URI" in os.environ
        if kind == "MLflow" and not remote:
            needed += ("sqlalchemy", "alembic", "sqlparse")  # of its database
        missing = ", ".join(package for package in needed if find_spec(package) is None)
        if missing:
            install = install_command(needed[0])
            yield f"{key}._target_", f"needs {missing}, which is not installed; write {install}"


_RULES = (
    *(_name, _folders, _weights, _environment, _metrics),
    *(_images, _trainer, _callbacks, _loggers),
)


def _members(select: CheckedValues, section: str) -> Iterator[tuple[str, str, str]]:
    """Yields the key, the module and the name of the class of each member of a section."""
    members: Any = select(section)
    for name in members if isinstance(members, dict) else ():
        if isinstance(members[name], dict):
            home, _, kind = target_of(select, f"{section}.{name}").rpartition(".")
            yield f"{section}.{name}", home, kind


def target_of(select: CheckedValues, key: str) -> str:
    """Returns the class that a part of the config builds, by the module that defines it, or ""."""
    target = select(f"{key}._target_")
    return _defined(target) if isinstance(target, str) else ""


@cache
def _defined(target: str) -> str:
    try:
        found = locate(target)
    except NotFoundError:
        return ""
    if found is None or not isinstance(found.node, ast.ClassDef):
        return ""
    return f"{found.module.name}.{found.node.name}"
