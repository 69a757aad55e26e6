"""Parts of a W&B run that need no run: credentials, settings, files that must not change."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from forger.errors import ConfigError
from forger.loggers.tracker import Model
from forger.metrics.names import better
from forger.secrets import masked


def check_wandb_login() -> None:
    """Checks that an online run could start, without asking anything at the terminal.

    Raises:
        ConfigError: there is no API key, or a malformed one, and W&B is not switched off either.
    """
    import wandb

    if os.environ.get("WANDB_MODE") in ("offline", "dryrun", "disabled"):
        return
    try:
        found = wandb.login(prompt=False, verify=False)
        reason = "no W&B account is configured here"
    except wandb.Error as error:
        found, reason = False, str(error)
    if not found:
        raise ConfigError(
            f"logger=wandb: {reason}. Run `wandb login` once, or set WANDB_API_KEY, or keep the run"
            " on disk with logger.offline=true"
        )


def define_metrics(run: Any, step: str) -> None:
    """Sets the x-axis of everything."""
    run.define_metric(step)
    run.define_metric("*", step_metric=step, step_sync=True)


def define_scores(run: Any, step: str, names: Iterable[str]) -> None:
    """Sets that the summary of a score has its best value too."""
    for name in names:
        if name.startswith("val/") and (best := better(name)) is not None:
            summary = f"{best},last"
            run.define_metric(name, step_metric=step, step_sync=True, summary=summary)


def settings() -> dict[str, Any]:
    """Returns settings of W&B: quiet, each run its own, and no command with a secret in it."""
    chosen: dict[str, Any] = {"quiet": True, "reinit": "finish_previous"}
    if masked(sys.argv) != sys.argv:
        chosen["x_disable_meta"] = True  # W&B records the command line
    return chosen


def kept_file(model: Model, folder: Path) -> Path:
    """Gives a checkpoint a second name, which stays when the first is given to another."""
    folder.mkdir(parents=True, exist_ok=True)
    iteration = model.metadata.get("iteration", 0)
    kept = folder / f"{iteration:.0f}_{model.path.name}"
    kept.unlink(missing_ok=True)
    try:
        kept.hardlink_to(model.path)
    except OSError:  # a file system without links
        shutil.copyfile(model.path, kept)
    return kept
