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
        save_dir: the run folder; `configs/logger/mlflow.yaml` explains the others.
        local_dir: for database and files, without a `tracking_uri` or `MLFLOW_TRACKING_URI`.
        resume_at: the iteration that a resumed run goes on after.

    Raises:
        ConfigError: the address holds a password.
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
        self.check({"tracking_uri": tracking_uri})
        self.folder, self.log_model, self.resume_at = Path(save_dir), log_model, resume_at
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
                run_name=name or self.folder.resolve().name,
                tracking_uri=uri,
                tags=dict.fromkeys(tags, "true") | known,
                artifact_location=artifacts,
                run_id=found,
            )
        self._begun, self._found = False, found is not None
        self._failed_at: int | None = None  # iteration

    @staticmethod
    def check(settings: Mapping[str, Any]) -> None:
        """Refuses an address with a password."""
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
        from mlflow.exceptions import MlflowException  # an extra

        try:
            return super().experiment
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return super().experiment  # another job of a sweep has just made the project

    def finalize(self, status: str = "success") -> None:
        """Leaves the run open, which Lightning would end after training: `close` sends more."""

    def _try(self, step: int, send: Callable[..., None], *arguments: Any) -> bool:
        if self._failed_at is None and not super()._try(step, send, *arguments):
            self._failed_at = step
        return self._failed_at is None

    def _start(self, params: Any) -> int | None:
        with _starting():
            self.experiment.update_run(self.run_id, status="RUNNING")
        self._begun = True
        self._try(0, self._send_config, dict(params))
        return None if self._found else 0

    def _send_config(self, params: dict[str, Any]) -> None:
        """Sends the config; of a resumed run as a file alone, for parameters cannot change."""
        git = (params.get("environment") or {}).get("git") or {}
        self.experiment.set_tag(self.run_id, "mlflow.source.git.commit", git.get("commit") or "")
        self.experiment.log_dict(self.run_id, params, "config.json")
        if not self._found:
            settings = {key: value for key, value in params.items() if key != "environment"}
            MLFlowLogger.log_hyperparams(self, settings)

    def _send_row(self, row: dict[str, Any], step: int | None) -> None:
        MLFlowLogger.log_metrics(self, row, step)

    def _send_picture(self, key: str, picture: Image.Image, step: int, caption: str | None) -> None:
        self.experiment.log_image(self.run_id, picture, key=key, step=step)

    def _send_checkpoint(self, path: Path, aliases: list[str], about: dict[str, Any]) -> None:
        self.experiment.log_artifact(self.run_id, str(path), "checkpoints")
        name = f"checkpoints/{path.stem}.json"
        self.experiment.log_dict(self.run_id, {"aliases": aliases, **about}, name)

    def close(self, exit_code: int) -> None:
        """Ends the run, if it has begun; sends first what could not be sent before."""
        import mlflow

        if self._begun:
            first, self._failed_at = self._failed_at, None
            if first is not None:
                self.log_earlier(first, sys.maxsize)
            super().close(exit_code)
            # Lightning has set ours for the whole process.
            mlflow.set_tracking_uri(self._environment)  # type: ignore[arg-type]

    def _end(self, exit_code: int) -> None:
        if self.best:
            best = {f"best/{name}": score for name, score in self.best.items()}
            self._send_row(best, int(self.best["iteration"]))
        status = "FINISHED" if exit_code == 0 else "KILLED" if exit_code > 128 else "FAILED"
        self.experiment.set_terminated(self.run_id, status)


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
