"""One run in MLflow's store, which takes everything once. Owns MLflow's client and its limits.

When to send what, and what to do when it fails, is for the logger in `forger.loggers.ml_flow`.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forger.loggers.metrics_csv import scalar
from forger.loggers.tracker import flat, lacking

ID = "forger.id"  # tag with the id that the run's config has
_KEY, _VALUE, _BATCH = 250, 6000, 100  # MLflow's limits: letters of a name, of a value; parameters
_FORBIDDEN = re.compile(r"[^\w./ :-]", re.ASCII)
_PICTURE = re.compile(r"images/(.+?)[%+]step[%+](\d+)[%+]")


class MLflowRun:
    """A run that is there.

    Args:
        client: MLflow's.
        run_id: MLflow's.
        asks: whether the run may hold something already; then it is asked, and is sent the rest.
    """

    def __init__(self, client: Any, run_id: str, *, asks: bool) -> None:
        self.client, self.id = client, run_id
        self._known: set[tuple[int, str]] = set()
        self._asked: set[str] = set()
        self.asks = asks

    @classmethod
    def begin(
        cls, uri: str, project: str, artifacts: str | None, name: str, tags: Mapping[str, str]
    ) -> MLflowRun:
        """Begins a run, or goes on with the one that has the same tag `forger.id`.

        Args:
            uri: of the store.
            project: MLflow's experiment, made where it is missing.
            artifacts: where a new experiment's files go; `None`: the server decides.
            name: shown name.
            tags: of a new run.

        Raises:
            Exception: the store cannot be reached, or refuses.
        """
        from mlflow import MlflowClient
        from mlflow.tracking.context.registry import resolve_tags

        for chatty in ("alembic", "mlflow.store.db.utils"):  # each migration of a new database
            logging.getLogger(chatty).setLevel(logging.WARNING)
        client = MlflowClient(uri)
        experiment = _experiment(client, project, artifacts)
        if ID in tags:
            found = client.search_runs([experiment], f"tags.`{ID}` = '{tags[ID]}'")
            if found:
                client.update_run(found[0].info.run_id, status="RUNNING")
                return cls(client, found[0].info.run_id, asks=True)
        run = client.create_run(experiment, run_name=name, tags=resolve_tags(dict(tags)))
        return cls(client, run.info.run_id, asks=False)

    def send(self, metrics: Mapping[str, Any], step: int) -> None:
        """Sends a row; values that are not scalars are left out."""
        from mlflow.entities import Metric

        row = {_FORBIDDEN.sub("_", name)[:_KEY]: scalar(v) for name, v in metrics.items()}
        if self.asks:
            for name in row.keys() - self._asked:
                history = self.client.get_metric_history(self.id, name)
                self._known |= {(metric.step, name) for metric in history}
                self._asked.add(name)
        now = int(time.time() * 1000)
        new = lacking(self._known, row, step)
        batch = [Metric(key, value, now, step) for key, value in new.items() if value is not None]
        if batch:
            self.client.log_batch(self.id, metrics=batch)

    def send_picture(self, key: str, image: Any, step: int) -> None:
        """Sends a picture of PIL."""
        if self.asks and "" not in self._asked:
            self._asked.add("")  # no metric has this name
            for file in self.client.list_artifacts(self.id, "images"):
                if match := _PICTURE.match(file.path):
                    self._known.add((int(match[2]), re.sub("[~#]", "/", match[1])))
        if (step, key) not in self._known:
            self.client.log_image(self.id, image, key=key, step=step)

    def send_config(self, config: Mapping[str, Any]) -> None:
        """Sends the config as a file and as parameters, of which MLflow changes none later."""
        from mlflow.entities import Param

        self.client.log_dict(self.id, dict(config), "config.json")
        environment = config.get("environment") or {}
        commit = (environment.get("git") or {}).get("commit")
        if commit:
            self.client.set_tag(self.id, "mlflow.source.git.commit", commit)
        settings = {name: value for name, value in config.items() if name != "environment"}
        there = self.client.get_run(self.id).data.params if self.asks else {}
        named = {_FORBIDDEN.sub("_", key)[:_KEY]: value for key, value in flat(settings).items()}
        new = [Param(key, _text(value)) for key, value in named.items() if key not in there]
        for first in range(0, len(new), _BATCH):
            self.client.log_batch(self.id, params=new[first : first + _BATCH])

    def send_file(self, path: Path, folder: str, about: Mapping[str, Any]) -> None:
        """Copies a file to the run's artifacts, and what is to be known of it beside it."""
        self.client.log_artifact(self.id, str(path), folder)
        self.client.log_dict(self.id, dict(about), f"{folder}/{path.stem}.json")

    def ask_again(self) -> None:
        """Takes nothing for known: something may have failed half-way."""
        self.asks = True
        self._known.clear()
        self._asked.clear()

    def end(self, status: str) -> None:
        """Sets how the run ended: `FINISHED`, `FAILED` or `KILLED`."""
        self.client.set_terminated(self.id, status)


def _experiment(client: Any, name: str, artifacts: str | None) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifacts))
        except MlflowException:  # another job of a sweep was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text[:_VALUE]
