"""Weights & Biases."""

from __future__ import annotations

import os
import sys
import time
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

    Offline is the mode of this run alone: `WandbLogger(offline=True)` sets it for the process and
    the runs that come after. A run that an agent of W&B's own sweeps started takes the agent's id,
    project and entity. W&B tells how much of a resumed run its server has; offline,
    `wandb/logged_up_to` holds the last iteration that is in W&B's files for sure, and what a killed
    process had logged after it is logged again, under the same steps.

    Args:
        save_dir: the run folder; W&B writes to `wandb/` below it.
        id: of the run; `None`: W&B draws one; `configs/logger/wandb.yaml` explains the others.
        resume_at: the iteration that a resumed run goes on after.

    Raises:
        ConfigError: the run is online and there are no credentials, or `tags` is one string.
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
        self.check({"tags": tags, "offline": offline})
        super().__init__(save_dir=save_dir, project=project, id=id)
        self.folder, self.log_model, self.resume_at = Path(save_dir), log_model, resume_at
        settings = {"quiet": True, "reinit": "finish_previous"}
        if masked(sys.argv) != sys.argv:  # W&B would record the command line
            settings["x_disable_meta"] = True
        self._settings: dict[str, Any] = {
            "dir": str(save_dir),
            "mode": "offline" if offline else None,
            "resume": None if offline or resume_at is None else "allow",
            "name": name or self.folder.resolve().name,
            **{"group": group, "tags": list(tags), "notes": notes, "job_type": job_type},
            "settings": settings,
        }
        if "WANDB_SWEEP_ID" not in os.environ:  # whose agent decides these, and W&B warns of others
            self._settings |= {"project": project, "entity": entity, "id": id}
        self._run: Any = None
        self._note = self.folder / "wandb" / "logged_up_to"
        self._logged_before = self._logged = -1  # iterations: by an earlier process, and by now
        self._written, self._note_at = -1, 0.0  # iteration; seconds of the clock

    @staticmethod
    def check(settings: Mapping[str, Any]) -> None:
        """Checks tags, and that there are credentials for an online run; asks no questions."""
        Tracker.check(settings)
        switched_off = os.environ.get("WANDB_MODE") in ("offline", "dryrun", "disabled")
        if not settings.get("offline") and not switched_off:
            rank_zero_only(_check_login)()

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """W&B's run, which starts at the first use.

        Raises:
            RunError: it cannot start.
        """
        import wandb

        if self._run is None:
            try:
                self._run = wandb.init(**self._settings)
            except wandb.Error as error:
                hint = "logger.offline=true keeps it on disk"
                raise RunError(f"logger=wandb: the run cannot start: {error}; {hint}") from error
            self._run.define_metric("val/*", summary="min,max,last")
            with self.harmless():
                note = int(self._note.read_text()) if self._note.is_file() else -1
                self._logged = self._logged_before = max(note, self._run.step - 1)
        return self._run

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Logs the config, and then what W&B lacks of a resumed run."""
        super().log_hyperparams(params)
        if self.resume_at is not None:
            self.log_earlier(self._logged_before + 1, self.resume_at)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Logs a row at its iteration; W&B's steps cannot go back, so a late row joins the last."""
        with self.harmless():
            run = self.experiment
            if step is None or step >= self._logged_before:
                self._logged = max(step or 0, self._logged)
                run.log(dict(metrics), step=self._logged)
                self._note_what_is_written()

    def _note_what_is_written(self) -> None:
        """Notes once a minute what was logged a minute ago: W&B writes its file each 15 seconds."""
        if time.monotonic() >= self._note_at:
            if self._written > self._logged_before:
                self._note.write_text(str(self._written))
            self._written = self._logged - 1  # the latest row is still open
            self._note_at = time.monotonic() + 60

    @rank_zero_only
    def log_picture(self, key: str, picture: Image.Image, step: int) -> None:
        """Sends a picture with its iteration as caption."""
        with self.harmless():
            self.log_image(key, [picture], step, caption=[f"iteration {step:,}"])

    @rank_zero_only
    def log_best(self, scores: Mapping[str, float]) -> None:
        """Sends `best/<score>` in the summary: one value each of the run, and no curve."""
        super().log_best(scores)
        with self.harmless():
            self.experiment.summary.update({f"best/{name}": v for name, v in scores.items()})

    @rank_zero_only
    def log_checkpoint(
        self, path: Path, aliases: Sequence[str], metadata: Mapping[str, float]
    ) -> None:
        """Logs a copy of a checkpoint as a version of the artifact `model-<id of the run>`."""
        import wandb

        with self.harmless():
            run = self.experiment
            artifact = wandb.Artifact(f"model-{run.id}", "model", metadata=dict(metadata))
            artifact.add_file(str(path), name=path.name, skip_cache=True)
            run.log_artifact(artifact, aliases=list(aliases))

    @rank_zero_only
    def close(self, exit_code: int) -> None:
        """Ends the run, if it has begun, and waits until all of it is sent."""
        if self._run is not None:
            with self.harmless():
                self._run.finish(exit_code=exit_code)
                self._note.write_text(str(self._logged))


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
