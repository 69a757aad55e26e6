"""MLflow."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from forger.errors import ConfigError, RunError
from forger.loggers.tracker import CheckpointChoice, Tracker

_ID = "forger.id"  # tag by which a resumed run is found
_ADDRESS = "MLFLOW_TRACKING_URI"


class MLflow(Tracker, MLFlowLogger):
    """Lightning's `MLFlowLogger`, with a database of this machine where there is no server.

    When MLflow fails while a run trains, nothing more is sent until the end: each further try would
    hold the training up. Then the rest is sent from the run folder.

    Args:
        save_dir: the run folder.
        local_dir: for database and files, without a `tracking_uri` or `MLFLOW_TRACKING_URI`.
        id: of the run, ours, which becomes a tag; `configs/logger/mlflow.yaml` explains the others.
        resume_at: the iteration that a resumed run goes on after.

    Raises:
        ConfigError: `tags` is one string, or the address holds a password.
        RunError: the run cannot start.
    """

    title = "MLflow"

    def __init__(
        self,
        save_dir: str | Path,
        *,
        project: str = "forger",
        tracking_uri: str | None = None,
        local_dir: str | Path = "logs/mlflow",
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        notes: str | None = None,
        job_type: str | None = None,
        id: str | None = None,
        log_model: CheckpointChoice = "none",
        resume_at: int | None = None,
    ) -> None:
        self.check({"tags": tags, "tracking_uri": tracking_uri})
        self._environment = os.environ.get(_ADDRESS)
        uri, artifacts = tracking_uri or self._environment, None
        if uri is None:
            local = Path(local_dir).absolute()
            local.mkdir(parents=True, exist_ok=True)
            uri, artifacts = f"sqlite:///{local / 'mlflow.db'}", (local / "artifacts").as_uri()
        own = {_ID: id, "group": group, "job_type": job_type, "mlflow.note.content": notes}
        known = {key: value for key, value in own.items() if value is not None}
        for chatty in ("alembic", "mlflow.store.db.utils", "lightning.pytorch.loggers.mlflow"):
            logging.getLogger(chatty).setLevel(logging.ERROR)  # of each step to a new database
        with _starting():
            found = None if resume_at is None else _find_run(uri, project, id)
            super().__init__(
                project,
                run_name=name or Path(save_dir).resolve().name,
                tracking_uri=uri,
                tags=dict.fromkeys(tags, "true") | known,
                artifact_location=artifacts,
                run_id=found,
            )
        self.folder, self.log_model, self.resume_at = Path(save_dir), log_model, resume_at
        self._begun, self._found = False, found is not None
        self._failed_at: int | None = None  # iteration

    @staticmethod
    def check(settings: Mapping[str, Any]) -> None:
        """Checks tags and address."""
        Tracker.check(settings)
        if urlsplit(str(settings.get("tracking_uri") or "")).password:
            raise ConfigError(
                "logger.tracking_uri: holds a password, and the config is recorded; set"
                " MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment, or the"
                f" whole address as {_ADDRESS}"
            )

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """MLflow's client; the run begins at the first use."""
        from mlflow.exceptions import MlflowException

        try:
            return super().experiment
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return super().experiment  # another job of a sweep has just made the project

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Begins the run, and logs the config; of a resumed one that is new here, all of it."""
        with _starting():
            self.experiment.update_run(self.run_id, status="RUNNING")
        self._begun = True
        git = (params.get("environment") or {}).get("git") or {}
        self._call(0, "set_tag", "mlflow.source.git.commit", git.get("commit") or "")
        self._call(0, "log_dict", dict(params), "config.json")
        if not self._found:  # parameters are never changed later
            settings = {key: value for key, value in params.items() if key != "environment"}
            self._send(0, lambda: MLFlowLogger.log_hyperparams(self, settings))
        if not self._found and self.resume_at is not None:
            self.log_earlier(0, self.resume_at)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Logs a row."""
        self._send(step or 0, lambda: MLFlowLogger.log_metrics(self, metrics, step))

    @rank_zero_only
    def log_picture(self, key: str, picture: Image.Image, step: int) -> None:
        """Sends a picture."""
        self._call(step, "log_image", picture, key=key, step=step)

    @rank_zero_only
    def log_checkpoint(
        self, path: Path, aliases: Sequence[str], metadata: Mapping[str, float]
    ) -> None:
        """Copies a checkpoint to `checkpoints/` of the run's artifacts, in place of the last."""
        self._call(0, "log_artifact", str(path), "checkpoints")
        about = {"aliases": list(aliases), **metadata}
        self._call(0, "log_dict", about, f"checkpoints/{path.stem}.json")

    def finalize(self, status: str = "success") -> None:
        """Leaves the run open, which Lightning would end after training: `close` sends more."""

    @rank_zero_only
    def close(self, exit_code: int) -> None:
        """Sends what could not be sent and the best scores, one value each, and ends the run."""
        import mlflow

        if not self._begun:
            return
        if self._failed_at is not None:
            first, self._failed_at = self._failed_at, None
            self.log_earlier(first, sys.maxsize)
        if self.best:
            best = {f"best/{name}": score for name, score in self.best.items()}
            self.log_metrics(best, int(self.best["iteration"]))
        status = "FINISHED" if exit_code == 0 else "KILLED" if exit_code > 128 else "FAILED"
        self._call(0, "set_terminated", status)
        # Lightning has set ours for the whole process.
        mlflow.set_tracking_uri(self._environment)  # type: ignore[arg-type]

    def _call(self, at: int, method: str, /, *arguments: Any, **more: Any) -> None:
        self._send(at, lambda: getattr(self.experiment, method)(self.run_id, *arguments, **more))

    def _send(self, step: int, send: Callable[[], object]) -> None:
        if self._failed_at is None:
            with self.harmless():
                try:
                    send()
                except Exception:
                    self._failed_at = step
                    raise


def _find_run(uri: str, project: str, own_id: str | None) -> str | None:
    """Returns MLflow's id of a run that is there, by ours."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(project)
    search = f"tags.`{_ID}` = '{own_id}'"
    runs = [] if experiment is None else client.search_runs([experiment.experiment_id], search)
    return runs[0].info.run_id if runs else None


@contextmanager
def _starting() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise RunError(
            f"logger=mlflow: the run cannot start: {error}; see logger.tracking_uri, and"
            f" {_ADDRESS} in the environment"
        ) from error
