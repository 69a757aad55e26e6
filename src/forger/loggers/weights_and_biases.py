"""Weights & Biases. Owns how its runs start; Lightning's logger does the rest."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from forger.errors import ConfigError


class Wandb(WandbLogger):
    """Lightning's `WandbLogger` for runs that follow each other in one process.

    Offline is the mode of this run alone: `WandbLogger(offline=True)` sets it for the process and
    the runs that come after. Missing credentials are found before training, and W&B prints where
    the run is and little else. `close_loggers` ends the run.

    Args:
        save_dir: the run folder; W&B writes to `wandb/` below it.
        project: the W&B project.
        offline: keeps the run on disk, for `wandb sync`; no account is needed.
        name: shown name of the run; `None`: the run folder's name.
        group: name shared by runs that belong together.
        tags: words to find the run by.
        notes: a longer description.
        job_type: for example train.
        entity: user or team; `None`: your default one.
        id: of the run; `None`: W&B draws one.
        resumed: whether the run of that id goes on.

    Attributes:
        logged: the last step that the run of this id has; up to it nothing is logged again, since
            a resumed run repeats its last rows.

    Raises:
        ConfigError: the run is online and there are no credentials, or `tags` is one string.
    """

    def __init__(
        self,
        save_dir: str | Path,
        *,
        project: str = "forger",
        offline: bool = False,
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        notes: str | None = None,
        job_type: str | None = None,
        entity: str | None = None,
        id: str | None = None,
        resumed: bool = False,
    ) -> None:
        if isinstance(tags, str):  # would become one tag for each letter
            raise ConfigError(f"logger.tags={tags!r}: must be a list, for example [{tags}]")
        if not offline:
            rank_zero_only(check_wandb_login)()
        super().__init__(
            save_dir=save_dir,
            project=project,
            mode="offline" if offline else None,
            name=name or Path(save_dir).resolve().name,
            group=group,
            tags=list(tags),
            notes=notes,
            job_type=job_type,
            entity=entity,
            id=id,
            settings={"quiet": True},
            resume="allow" if resumed and not offline else None,  # offline, the id alone does it
        )
        self.logged = 0
        self._wandb_init.pop("anonymous", None)  # Lightning passes it on, and W&B warns of it

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Logs a row or a picture, unless the resumed run has it already."""
        if step is None or step > self.logged:
            super().log_metrics(metrics, step)


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
