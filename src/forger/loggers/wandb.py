"""Weights & Biases."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from forger.errors import ConfigError, RunError
from forger.loggers.tracker import CheckpointChoice, Tracker
from forger.secrets import masked


class Wandb(Tracker, WandbLogger):
    """Lightning's `WandbLogger`, with the iteration as W&B's own step.

    Offline is the mode of this run alone: `WandbLogger(offline=True)` sets it for the process. W&B
    tells how much of a resumed run its server has; offline, `wandb/logged_up_to` holds the last
    iteration of a run that was closed, and what a killed process logged after it is logged again.

    Args:
        save_dir: the run folder; `configs/logger/wandb.yaml` explains the others.
        resume_at: the iteration that a resumed run goes on after.

    Raises:
        ConfigError: the run is online and there are no credentials.
    """

    title = "W&B"

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
        log_model: CheckpointChoice = "none",
        resume_at: int | None = None,
    ) -> None:
        self.check({"offline": offline})
        super().__init__(save_dir=save_dir, project=project, id=id)
        self.folder, self.log_model, self.resume_at = Path(save_dir), log_model, resume_at
        self._settings: dict[str, Any] = {
            "dir": str(save_dir),
            "mode": "offline" if offline else None,
            "resume": None if offline or resume_at is None else "allow",
            "name": name or self.folder.resolve().name,
            **{"group": group, "tags": list(tags), "notes": notes, "job_type": job_type},
            "settings": {"quiet": True, "reinit": "finish_previous"},
        }
        if masked(sys.argv) != sys.argv:  # W&B would record the command line
            self._settings["settings"]["x_disable_meta"] = True
        if "WANDB_SWEEP_ID" not in os.environ:  # whose agent decides these, and W&B warns of others
            self._settings |= {"project": project, "entity": entity, "id": id}
        self._run: Any = None
        self._note = self.folder / "wandb" / "logged_up_to"
        self._logged_before = self._logged = -1  # iterations: by an earlier process, and by now

    @staticmethod
    def check(settings: Mapping[str, Any]) -> None:
        """Checks that there are credentials for an online run; asks no questions."""
        switched_off = os.environ.get("WANDB_MODE") in ("offline", "dryrun", "disabled")
        if not settings.get("offline") and not switched_off:
            rank_zero_only(_check_login)()

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """W&B's run, which starts at the first use; `RunError` where it cannot."""
        import wandb  # takes half a second, and few runs use it

        if self._run is None:
            try:
                self._run = wandb.init(**self._settings)
            except wandb.Error as error:
                hint = "logger.offline=true keeps it on disk"
                raise RunError(f"logger=wandb: the run cannot start: {error}; {hint}") from error
            self._run.define_metric("val/*", summary="min,max,last")
            self._try(0, self._read_note)
        return self._run

    @rank_zero_only
    def log_best(self, scores: Mapping[str, float]) -> None:
        """Sends `best/<score>` in the summary: one value each of the run, and no curve."""
        super().log_best(scores)
        best = {f"best/{name}": value for name, value in scores.items()}
        self._try(0, lambda: self.experiment.summary.update(best))

    def _start(self, params: Any) -> int:
        WandbLogger.log_hyperparams(self, params)
        return self._logged_before + 1

    def _send_row(self, row: dict[str, Any], step: int | None) -> None:
        run = self.experiment
        if step is None or step >= self._logged_before:
            self._logged = max(step or 0, self._logged)  # W&B's steps cannot go back
            run.log(row, step=self._logged)

    def _send_picture(self, key: str, picture: Image.Image, step: int, caption: str | None) -> None:
        told = f"iteration {step:,}" + (f", {caption}" if caption else "")
        self.log_image(key, [picture], step, caption=[told])

    def _send_checkpoint(self, path: Path, aliases: list[str], about: dict[str, Any]) -> None:
        import wandb

        artifact = wandb.Artifact(f"model-{self.experiment.id}", "model", metadata=about)
        artifact.add_file(str(path), name=path.name, skip_cache=True)
        self.experiment.log_artifact(artifact, aliases=aliases)

    def _end(self, exit_code: int) -> None:
        if self._run is not None:
            self._run.finish(exit_code=exit_code)
            self._note.write_text(str(self._logged))

    def _read_note(self) -> None:
        note = int(self._note.read_text()) if self._note.is_file() else -1
        self._logged = self._logged_before = max(note, self._run.step - 1)


def _check_login() -> None:
    import wandb

    try:
        found = wandb.login(prompt=False, verify=False)
        reason = "no W&B account is configured here"
    except wandb.Error as error:  # of a malformed key
        found, reason = False, str(error)
    if not found:
        raise ConfigError(
            f"logger=wandb: {reason}. Run `wandb login` once, or set WANDB_API_KEY, or keep the run"
            " on disk with logger.offline=true"
        )
