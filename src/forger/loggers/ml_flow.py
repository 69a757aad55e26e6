"""MLflow. Owns when its runs start, go on and end, and what becomes of a failing server.

Lightning's `MLFlowLogger` is not used: it sets the address of the server for the whole process,
cannot go on with a run without logging rows twice, and takes no pictures.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image
from torch import Tensor

from forger.errors import ConfigError, RunError
from forger.loggers.history import Earlier, pictures_of, rows_of
from forger.loggers.mlflow_run import ID, MLflowRun
from forger.loggers.tracker import Model, Models, Tracker, check_tags
from forger.pictures import to_pil

log = logging.getLogger(__name__)


class MLflow(Tracker, Logger):
    """A run of MLflow, in a database of this machine or on a server.

    When MLflow fails while a run trains, nothing more is sent until its end; then what is missing
    is sent from the run folder, if MLflow is there again.

    Args:
        save_dir: the run folder.
        project: name of MLflow's experiment.
        tracking_uri: of the server; `None`: `MLFLOW_TRACKING_URI`, or else `mlflow.db` in
            `local_dir`.
        local_dir: for the database and the files of runs where there is no server.
        name: shown name of the run; `None`: the run folder's name.
        group: name shared by runs that belong together; a tag.
        tags: words to find the run by; each becomes a tag with the value `true`.
        notes: a longer description.
        job_type: for example train; a tag.
        id: of the run, ours, by which it is found again; a tag.
        log_model: which checkpoints become artifacts.

    Raises:
        ConfigError: `tags` is one string, or the address holds a password.
    """

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
        log_model: Models = "none",
    ) -> None:
        super().__init__()
        self.check({"tags": tags, "tracking_uri": tracking_uri})
        self.project, self.local_dir = project, Path(local_dir).absolute()
        self.tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        self.log_model, self.best = log_model, {}
        own = {ID: id, "group": group, "job_type": job_type, "mlflow.note.content": notes}
        self._tags = dict.fromkeys(tags, "true")
        self._tags |= {key: value for key, value in own.items() if value is not None}
        self._folder = Path(save_dir).resolve()
        self._run_name = name or self._folder.name
        self._run: MLflowRun | None = None
        self._off = False

    @staticmethod
    def check(settings: Mapping[str, Any]) -> None:
        """Checks tags and address."""
        check_tags(settings.get("tags"))
        if urlsplit(str(settings.get("tracking_uri") or "")).password:
            raise ConfigError(
                "logger.tracking_uri: holds a password, and the config is recorded; set"
                " MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment, or the"
                " whole address as MLFLOW_TRACKING_URI"
            )

    @property
    def name(self) -> str:
        """MLflow's experiment."""
        return self.project

    @property
    def version(self) -> str | None:
        """MLflow's id of the run, once it has begun."""
        return None if self._run is None else self._run.id

    @property
    def run(self) -> MLflowRun:
        """The run, which begins at the first use.

        Raises:
            RunError: it cannot begin.
        """
        if self._run is None:
            try:
                self._run = self._begin()
            except Exception as error:
                raise RunError(
                    f"logger=mlflow: the run cannot start: {error}; see logger.tracking_uri, and"
                    " MLFLOW_TRACKING_URI in the environment"
                ) from error
        return self._run

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Logs the config; then what an earlier process of the run could not deliver.

        Raises:
            RunError: the run cannot begin.
        """
        run = self.run
        self._deliver(run.send_config, params)
        earlier, self._earlier = self._earlier, None
        if earlier is not None:
            self._deliver(self._catch_up, earlier)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Logs a row; of a run that goes on, only what it does not have yet."""
        self._deliver(self.run.send, metrics, step or 0)

    @rank_zero_only
    def log_picture(self, key: str, image: Tensor, step: int) -> None:
        """Sends a picture, unless the run has it."""
        self._deliver(self.run.send_picture, key, to_pil(image), step)

    @rank_zero_only
    def send_model(self, model: Model) -> None:
        """Copies a checkpoint to `checkpoints/` of the run's artifacts, in place of the last."""
        about = {"aliases": list(model.aliases), **model.metadata}
        self._deliver(self.run.send_file, model.path, "checkpoints", about)

    @rank_zero_only
    def close(self, exit_code: int) -> None:
        """Ends the run, if it has begun; tries once more to send what could not be sent.

        The best scores are metrics of one value, `best/<score>`, and so are sent here alone.
        """
        if self._run is None:
            return
        self._deliver(self._send_best)
        if self._off:
            with self.harmless():
                self._run.ask_again()
                self._catch_up(Earlier(rows_of(self._folder), pictures_of(self._folder)))
                self._send_best()
                log.info("MLflow is there again, and has now got what it could not take")
        with self.harmless():
            status = "FINISHED" if exit_code == 0 else "KILLED" if exit_code > 128 else "FAILED"
            self._run.end(status)

    def _begin(self) -> MLflowRun:
        uri, artifacts = self.tracking_uri, None
        if uri is None:
            self.local_dir.mkdir(parents=True, exist_ok=True)
            uri = f"sqlite:///{self.local_dir / 'mlflow.db'}"
            artifacts = (self.local_dir / "artifacts").as_uri()
        return MLflowRun.begin(uri, self.project, artifacts, self._run_name, self._tags)

    def _catch_up(self, earlier: Earlier) -> None:
        for step, row in earlier.rows:
            self.run.send(row, step)
        for step, key, path in earlier.pictures:
            with Image.open(path, formats=["PNG"]) as image:
                self.run.send_picture(key, image, step)

    def _send_best(self) -> None:
        best = {f"best/{name}": score for name, score in self.best.items()}
        if best:
            self.run.send(best, int(self.best["iteration"]))

    def _deliver(self, work: Callable[..., None], *arguments: Any) -> None:
        """Does it, unless something has failed: each further try would hold the training up."""
        if self._off:
            return
        with self.harmless():
            try:
                work(*arguments)
            except Exception:
                self._off = True
                raise
