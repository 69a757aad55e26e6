from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from forger.errors import ConfigError, RunError
from forger.loggers import (
    Earlier,
    MetricsCSV,
    MLflow,
    close_loggers,
    log_best,
    log_image,
    send_models,
)

mlflow = pytest.importorskip("mlflow")
# MLflow 3.17 against SQLAlchemy 2.1, until MLflow follows.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")

STORE = "store"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database for all tests here: making one takes a second."""
    return tmp_path_factory.mktemp(STORE)


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


pytestmark = [pytestmark, pytest.mark.usefixtures("no_server")]


def client(store: Path) -> Any:
    return mlflow.MlflowClient(f"sqlite:///{store / 'mlflow.db'}")


def only(store: Path, project: str) -> Any:
    """The only run of an experiment."""
    there = client(store)
    experiment = there.get_experiment_by_name(project)
    (run,) = there.search_runs([experiment.experiment_id])
    return run


def steps(store: Path, run: Any, key: str) -> list[int]:
    return [metric.step for metric in client(store).get_metric_history(run.info.run_id, key)]


def pictures(store: Path, run: Any) -> list[str]:
    files = client(store).list_artifacts(run.info.run_id, "images")
    paths = (file.path.replace("%", "+").replace("#", "~") for file in files)  # of older releases
    return sorted(path.partition("+timestamp")[0] for path in paths if path.endswith(".png"))


SCORES = {"iteration": 2, "fid": 3.5}


def test_a_run_has_settings_metrics_pictures_names_and_its_end(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run_a"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "best.ckpt").write_bytes(b"weights")
    long, odd = "x" * 9000, {"a(b)": 1}
    config = {"model": {"hidden": [1, 2]}, "seed": 0, "long": long, "odd": odd}
    logger = MLflow(
        folder,
        project="whole",
        local_dir=store,
        tags=("a", "b"),
        group="g",
        notes="n",
        job_type="sweep",
        id="abc",
        log_model="best",
    )
    logger.log_hyperparams(config | {"environment": {"git": {"commit": "c0ffee"}}})
    logger.log_metrics({"train/loss_g": torch.tensor(0.5), "word": "x"}, step=1)
    logger.log_metrics({"train/loss_g": float("nan")}, step=2)
    log_image(logger, "samples/ema", torch.zeros(3, 4, 5, dtype=torch.uint8), step=2)
    log_best([logger], {"iteration": 1, "fid": 4.5})
    log_best([logger], SCORES)
    send_models([logger], folder, iteration=2)
    close_loggers([logger], exit_code=0)

    run = only(store, "whole")
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "run_a"
    assert run.data.params["model.hidden"] == "[1, 2]"
    assert run.data.params["seed"] == "0"
    assert run.data.params["odd.a_b_"] == "1"
    assert long.startswith(run.data.params["long"])
    assert not [key for key in run.data.params if "environment" in key]
    assert {key: run.data.tags[key] for key in ("a", "b", "group", "job_type", "forger.id")} == {
        "a": "true",
        "b": "true",
        "group": "g",
        "job_type": "sweep",
        "forger.id": "abc",
    }
    assert run.data.tags["mlflow.note.content"] == "n"
    assert run.data.tags["mlflow.source.git.commit"] == "c0ffee"
    assert steps(store, run, "train/loss_g") == [1, 2]
    assert run.data.metrics["best/fid"] == 3.5
    assert steps(store, run, "best/fid") == [2]  # one value, though told twice
    assert pictures(store, run) == ["images/samples~ema+step+2"]
    place = Path(client(store).download_artifacts(run.info.run_id, "checkpoints", str(tmp_path)))
    assert (place / "best.ckpt").read_bytes() == b"weights"
    assert json.loads((place / "best.json").read_text())["fid"] == 3.5


def test_a_run_that_goes_on_is_the_same_run_and_has_no_step_twice(
    store: Path, tmp_path: Path
) -> None:
    picture = torch.zeros(1, 4, 4, dtype=torch.uint8)
    first = MLflow(tmp_path, project="on", local_dir=store, id="on1")
    first.log_hyperparams({"trainer": {"max_steps": 3}})
    for step in (1, 3):  # row 2 did not arrive
        first.log_metrics({"a": float(step)}, step)
    log_image(first, "samples/ema", picture, step=3)
    close_loggers([first], exit_code=130)
    assert only(store, "on").info.status == "KILLED"

    rows = tuple((step, {"a": float(step)}) for step in (1, 2))
    second = MLflow(tmp_path, project="on", local_dir=store, id="on1")
    second.go_on(Earlier(rows, at=2, last=3, tracked=True))
    second.log_hyperparams({"trainer": {"max_steps": 5}, "new": 1})
    assert only(store, "on").info.status == "RUNNING"
    for step in (3, 4):
        second.log_metrics({"a": float(step)}, step)
        log_image(second, "samples/ema", picture, step)
    close_loggers([second], exit_code=1)
    run = only(store, "on")
    assert run.info.status == "FAILED"
    assert sorted(steps(store, run, "a")) == [1, 2, 3, 4]
    assert pictures(store, run) == [f"images/samples~ema+step+{step}" for step in (3, 4)]
    assert run.data.params == {"trainer.max_steps": "3", "new": "1"}


def test_what_a_failing_server_missed_is_sent_at_the_end(
    store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = MetricsCSV(tmp_path)
    logger = MLflow(tmp_path, project="gone", local_dir=store)
    tried = []

    def broken(*arguments: object, **more: object) -> None:
        tried.append(arguments)
        raise ConnectionError("gone")

    for step in (1, 2, 3):
        table.log_metrics({"a": float(step)}, step)
        if step == 2:
            monkeypatch.setattr(logger.run.client, "log_batch", broken)
        logger.log_metrics({"a": float(step)}, step)
    monkeypatch.undo()
    assert len(tried) == 1  # a server that hangs would hold up the training each time
    (told,) = [r.getMessage() for r in caplog.records if "training goes on" in r.getMessage()]
    assert "MLflow" in told
    assert "gone" in told
    close_loggers([logger], exit_code=0)
    run = only(store, "gone")
    assert steps(store, run, "a") == [1, 2, 3]
    assert run.info.status == "FINISHED"


def test_a_store_that_cannot_be_reached_is_told_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    logger = MLflow(tmp_path, tracking_uri=f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}")
    with pytest.raises(RunError, match=r"logger=mlflow.*tracking_uri"):
        logger.log_hyperparams({"seed": 0})
    close_loggers([logger], exit_code=1)


def test_an_address_with_a_password_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        MLflow(tmp_path, tracking_uri="https://me:hunter2@mlflow.example")
    assert "hunter2" not in str(caught.value)
