from __future__ import annotations

import json
from pathlib import Path

import pytest

from forger.errors import ConfigError, RunError
from forger.loggers import MLflow, close_trackers

mlflow = pytest.importorskip("mlflow")


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_a_run_has_settings_tags_and_its_config(tmp_path: Path) -> None:
    words = {"group": "g", "notes": "n", "job_type": "sweep", "id": "abc"}
    config = {"model": {"hidden": [1, 2]}, "trainer": {"max_steps": 3}, "long": "x" * 9000}
    commit = {"environment": {"git": {"commit": "c0ffee"}}}
    for resume_at, changed in ((None, {}), (3, {"trainer": {"max_steps": 5}})):
        logger = MLflow(
            tmp_path / "run", local_dir=tmp_path, tags=("a",), resume_at=resume_at, **words
        )
        logger.log_hyperparams(config | changed | commit)
        close_trackers([logger], exit_code=130)

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("forger").experiment_id])
    assert (run.info.run_name, run.info.status) == ("run", "KILLED")
    assert run.data.params["model/hidden"] == "[1, 2]"
    assert run.data.params["trainer/max_steps"] == "3"  # MLflow changes none; config.json is new
    assert config["long"].startswith(run.data.params["long"])
    assert not [key for key in run.data.params if "environment" in key]
    tags = {"a": "true", "group": "g", "job_type": "sweep", "forger.id": "abc"}
    tags |= {"mlflow.note.content": "n", "mlflow.source.git.commit": "c0ffee"}
    assert {key: run.data.tags.get(key) for key in tags} == tags
    file = Path(client.download_artifacts(run.info.run_id, "config.json", str(tmp_path)))
    assert json.loads(file.read_text())["trainer"]["max_steps"] == 5


def test_jobs_that_begin_at_once_share_a_new_experiment(tmp_path: Path) -> None:
    loggers = [MLflow(tmp_path / name, local_dir=tmp_path, project="new") for name in "ab"]
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    find = loggers[0].experiment.get_experiment_by_name
    answers = iter([None])  # as it was when the other job had not made it yet
    asks = type(loggers[1]._mlflow_client)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asks, "get_experiment_by_name", lambda _, name: next(answers, find(name)))
        loggers[1].log_hyperparams({})
    close_trackers(loggers, exit_code=0)
    assert len(client.search_runs([client.get_experiment_by_name("new").experiment_id])) == 2


def test_a_store_that_cannot_be_reached_and_a_password_are_told_before_training(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"logger=mlflow.*tracking_uri"):
        MLflow(tmp_path, tracking_uri=f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}")
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        MLflow(tmp_path, tracking_uri="https://me:hunter2@mlflow.example")
    assert "hunter2" not in str(caught.value)
