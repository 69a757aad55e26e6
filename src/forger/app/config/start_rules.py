"""What a run starts from and what it leaves: the rules about these. See `rules`.

Owns the names of the numbers that training logs, which a test holds beside a real run.
"""

from __future__ import annotations

import os
from pathlib import Path

from forger.app.config.accepted import Findings, Select
from forger.app.config.checkpoints import run_refusal
from forger.app.config.facts import NO_BOUNDARY, loss_name
from forger.app.config.messages import choice

_LOGGED = (
    *("loss_g", "loss_d", "d_real", "d_fake", "accuracy", "tpr", "fnr", "tnr", "fpr"),
    *("grad_norm_g", "grad_norm_d", "lr_g", "lr_d", "images_per_second", "images_seen"),
)
LOGGED = tuple(f"train/{name}" for name in _LOGGED)
_RATES = ("accuracy", "tpr", "fnr", "tnr", "fpr")
_RELATIVE = {f"train/{name}": f"train/relative_{name}" for name in _RATES}  # without a boundary
_PENALTY = "train/penalty_"  # one for each penalty of the loss


def weights(select: Select) -> Findings:
    """Yields what is wrong with the run whose weights a new one takes."""
    run = select("init_from")
    if isinstance(run, str) and (reason := run_refusal(run, "last", "init_from")):
        yield "init_from", reason


def log_folder(select: Select) -> Findings:
    """Yields a folder of runs that nothing can be written to."""
    folder = select("paths.log_dir")
    if not isinstance(folder, str) or not folder.strip() or not folder.isprintable():
        return
    path = Path(folder).expanduser()
    existing = next((place for place in (path, *path.parents) if place.is_dir()), None)
    if existing is not None and not os.access(existing, os.W_OK | os.X_OK):
        yield "paths.log_dir", f"{existing} cannot be written to; write paths.log_dir=<folder>"


def metrics(select: Select) -> Findings:
    """Yields metrics that something waits for and that training does not log.

    Which scores there are depends on the features; callbacks of the user's own may log anything.
    """
    callbacks = select("callbacks")
    nodes = callbacks if isinstance(callbacks, dict) else {}
    targets = [str(node.get("_target_", "")) for node in nodes.values() if isinstance(node, dict)]
    if not all(t.startswith("forger.") or t.endswith(".ModelCheckpoint") for t in targets):
        return
    known = logged(loss_name(select))
    keys = [f"callbacks.{name}.{key}" for name in nodes for key in ("metric", "monitor")]
    for key in ("objective", *keys):
        name = select(key)
        if isinstance(name, str) and not name.startswith(("val/", _PENALTY)) and name not in known:
            hints = [*known, "val/classifier_fid", "val/fid"]
            yield key, "no such metric is logged" + choice(name, hints)


def logged(loss: str | None) -> list[str]:
    """Returns what a run with a loss of ours logs, or with an unknown one may log."""
    if loss is None:
        return [*LOGGED, *_RELATIVE.values()]
    return [_RELATIVE.get(name, name) if loss in NO_BOUNDARY else name for name in LOGGED]


def environment(_: Select) -> Findings:
    """Yields variables by which Lightning would change the Trainer unseen."""
    for name in sorted(os.environ):
        setting = name.removeprefix("PL_TRAINER_").lower()
        if name.startswith("PL_TRAINER_"):
            yield (
                f"environment variable {name}",
                f"would change the Trainer unseen; unset it and write trainer.{setting}=<value>",
            )
