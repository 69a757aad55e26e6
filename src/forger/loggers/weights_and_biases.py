"""Weights & Biases. Owns how its runs start, go on and end, and what it is sent."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image
from torch import Tensor

from forger.errors import RunError
from forger.loggers.history import Earlier
from forger.loggers.tracker import Model, Models, Tracker, caption, check_tags, lacking
from forger.loggers.wandb_parts import (
    check_wandb_login,
    define_metrics,
    define_scores,
    kept_file,
    settings,
)
from forger.loggers.wandb_records import Held, files_of, read_held
from forger.pictures import to_pil

STEP = "iteration"  # name of the x-axis


class Wandb(Tracker, WandbLogger):
    """Lightning's `WandbLogger`, for runs that follow each other in one process and go on.

    The iteration is the x-axis of everything. Offline is the mode of this run alone:
    `WandbLogger(offline=True)` sets it for the process and the runs that come after. Missing
    credentials are found before training, and W&B prints where the run is and little else.
    `close_loggers` ends the run. A run that an agent of W&B's own sweeps started takes the agent's
    id, project and entity.

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
        log_model: which checkpoints become artifacts.

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
        log_model: Models = "none",
    ) -> None:
        self.check({"tags": tags, "offline": offline})
        of_agent = "WANDB_SWEEP_ID" in os.environ  # whose words W&B takes, and warns of others
        super().__init__(
            save_dir=save_dir,
            project=None if of_agent else project,
            mode="offline" if offline else None,
            name=name or Path(save_dir).resolve().name,
            group=group,
            tags=list(tags),
            notes=notes,
            job_type=job_type,
            entity=None if of_agent else entity,
            id=None if of_agent else id,
            settings=settings(),
            resume=None,  # offline, the id alone does it
        )
        self.log_model, self.best = log_model, {}
        self._run_id = id
        self._held, self._held_up_to = Held(), -1
        self._defined: set[str] = set()  # names of metrics that W&B knows
        self._wandb_init.pop("anonymous", None)  # Lightning passes it on, and W&B warns of it
        if of_agent:
            self._wandb_init.pop("project")  # Lightning has a default of its own

    @staticmethod
    def check(settings: Mapping[str, Any]) -> None:
        """Checks that the run could start."""
        check_tags(settings.get("tags"))
        if not settings.get("offline"):
            rank_zero_only(check_wandb_login)()

    def go_on(self, earlier: Earlier) -> None:
        """Has the run go on; W&B is sent what it lacks of it, and nothing twice."""
        super().go_on(earlier)
        if earlier.tracked and self._wandb_init["mode"] != "offline":
            self._wandb_init["resume"] = "allow"

    @property
    def what(self) -> str:
        """W&B's short name."""
        return "W&B"

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """W&B's run, which starts at the first use.

        Raises:
            RunError: it cannot start.
        """
        if self._experiment is None:
            self._experiment = self._start()
            if self._earlier is not None:
                with self.harmless():
                    self._look_at_what_is_there(self._earlier)
        return self._experiment

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Logs the config, and then what an earlier process of the run could not deliver.

        Raises:
            RunError: the run cannot start.
        """
        super().log_hyperparams(params)
        earlier, self._earlier = self._earlier, None
        if earlier is None:
            return
        for step, row in earlier.rows:
            self.log_metrics(row, step)
        for step, key, path in earlier.pictures:
            with self.harmless(), Image.open(path, formats=["PNG"]) as image:
                self._log_pil(key, image, step)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Logs a row; of a run that goes on, only what it does not have yet."""
        with self.harmless():
            run = self.experiment
            define_scores(run, STEP, metrics.keys() - self._defined)
            self._defined |= metrics.keys()
            if step is None:
                run.log(dict(metrics))
            elif step > self._held_up_to and (new := lacking(self._held.pairs, metrics, step)):
                # W&B numbers rows too; those of a run that goes on offline begin at 0 again
                number = self._held.steps or None
                self._held.steps += 1 if number else 0
                run.log({**new, STEP: step}, step=number, commit=True)

    @rank_zero_only
    def log_picture(self, key: str, image: Tensor, step: int) -> None:
        """Sends a picture, unless the run has it."""
        with self.harmless():
            self._log_pil(key, to_pil(image), step)

    @rank_zero_only
    def log_best(self, scores: Mapping[str, float]) -> None:
        """Sets `best/<score>` in the summary: one value each of the run, and no curve."""
        super().log_best(scores)
        with self.harmless():
            self.experiment.summary.update({f"best/{name}": v for name, v in scores.items()})

    @rank_zero_only
    def send_model(self, model: Model) -> None:
        """Logs a checkpoint as a version of the artifact `model-<id of the run>`."""
        import wandb

        with self.harmless():
            run = self.experiment
            artifact = wandb.Artifact(f"model-{run.id}", "model", metadata=model.metadata)
            kept = kept_file(model, Path(str(self.save_dir)) / "wandb" / "models")
            artifact.add_file(str(kept), name=model.path.name, policy="immutable", skip_cache=True)
            run.log_artifact(artifact, aliases=list(model.aliases))

    @rank_zero_only
    def close(self, exit_code: int) -> None:
        """Ends the run, if it has begun, and waits until all of it is sent."""
        if self._experiment is None:
            return
        with self.harmless():
            self._experiment.finish(exit_code=exit_code)
            if not self._experiment.offline:
                shutil.rmtree(Path(str(self.save_dir)) / "wandb" / "models", ignore_errors=True)

    def _start(self) -> Any:
        import wandb

        try:
            run = wandb.init(**self._wandb_init)
        except wandb.Error as error:
            raise RunError(
                f"logger=wandb: the run cannot start: {error}; logger.offline=true keeps it on disk"
            ) from error
        define_metrics(run, STEP)
        return run

    def _look_at_what_is_there(self, earlier: Earlier) -> None:
        """Finds out what of an earlier process's rows W&B has, or has on disk."""
        if not earlier.tracked:
            return
        run: Any = self._experiment
        self._held_up_to = earlier.last  # should the reading below fail: rather a gap than twice
        paths = files_of(Path(str(self.save_dir)), str(self._run_id), offline=not run.offline)
        paths = [path for path in paths if path.parent != Path(run.settings.sync_dir).resolve()]
        self._held = read_held(paths, STEP)
        if not run.offline:
            at = run.summary.get(STEP, 0) if run.resumed else 0
            self._held_up_to = int(at) if math.isfinite(at) else 0
            self._held.steps = 0  # the server goes on with its own count
        elif paths:  # else they were synced and removed: nothing tells what was in them
            self._held_up_to = -1
        if self._held_up_to == earlier.at:  # the end of training may add to that iteration
            self._held_up_to -= 1
            self._held.pairs |= earlier.newest

    def _log_pil(self, key: str, image: Any, step: int) -> None:
        import wandb

        picture = wandb.Image(image, caption=caption(step))  # W&B would rescale a tensor
        self.log_metrics({key: [picture]}, step)
