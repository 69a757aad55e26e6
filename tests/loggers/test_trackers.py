"""What every tracker does, read back from what it wrote; what one alone does is in the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from offline_wandb import read_offline_runs
from PIL import Image

from forger.loggers import (
    MetricsCSV,
    MLflow,
    TensorBoard,
    Tracker,
    Wandb,
    close_trackers,
    send_checkpoints,
)

pytest.importorskip("mlflow")
reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

SCORES = {"iteration": 20, "fid": 3.5, "coverage": 0.5}
PICTURE = Image.new("L", (5, 4))
Points = list[tuple[int, float]]
Seen = tuple[Points, list[int], dict[str, float], Any]  # rows of "a", grids, best scores, end


def open_wandb(folder: Path, **settings: Any) -> Tracker:
    return Wandb(folder, offline=True, id="own", **settings)


def read_wandb(folder: Path) -> Seen:
    runs = read_offline_runs(folder)
    assert {run.run.run_id for run in runs} == {"own"}
    rows = [(row["_step"], row["a"]) for run in runs for row in run.history if "a" in row]
    grids = [step for run in runs for step in run.images("samples/ema")]
    best = {k.removeprefix("best/"): v for k, v in runs[-1].summary.items() if k.startswith("best")}
    return rows, grids, best, runs[-1].exit_code


def open_tensorboard(folder: Path, **settings: Any) -> Tracker:
    return TensorBoard(folder, **settings)


def read_tensorboard(folder: Path) -> Seen:
    events = reader.EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0})
    tags = events.Reload().Tags()
    rows = [(event.step, event.value) for event in events.Scalars("a")]
    grids = [image.step for image in events.Images("samples/ema")]
    names = [tag for tag in tags["scalars"] if tag.startswith("best/")]
    best = {name[5:]: scores[0].value for name in names if (scores := events.Scalars(name))}
    return rows, grids, best, None


def open_mlflow(folder: Path, **settings: Any) -> Tracker:
    project, store = folder.parent.name, folder.parents[1] / "mlflow"  # one for all tests
    return MLflow(folder, project=project, local_dir=store, id="own", **settings)


def only_mlflow_run(folder: Path) -> tuple[Any, Any]:
    """MLflow's client, and the only run of the test."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder.parents[1] / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(folder.parent.name)
    (run,) = client.search_runs([experiment.experiment_id])
    return client, run


def read_mlflow(folder: Path) -> Seen:
    client, run = only_mlflow_run(folder)
    history = client.get_metric_history(run.info.run_id, "a")
    files = [file.path for file in client.list_artifacts(run.info.run_id, "images")]
    grids = [int(path.split("step")[1][1:].split(path.split("step")[1][0])[0]) for path in files]
    best = {k[5:]: v for k, v in run.data.metrics.items() if k.startswith("best/")}
    ends = {"FINISHED": 0, "FAILED": 1, "KILLED": 143, "RUNNING": None}
    return [(m.step, m.value) for m in history], sorted(set(grids)), best, ends[run.info.status]


class Taker(Tracker):
    """A tracker that keeps nothing but names of checkpoints."""

    name = version = ""

    def __init__(self, folder: Path, **settings: Any) -> None:
        super().__init__()
        self.taken: list[tuple[str, ...]] = []

    def _send_checkpoint(self, path: Path, aliases: Any, about: Any) -> None:
        self.taken.append((path.stem, *aliases))


each = pytest.mark.parametrize(
    ("opens", "reads"),
    [(open_wandb, read_wandb), (open_tensorboard, read_tensorboard), (open_mlflow, read_mlflow)],
    ids=["wandb", "tensorboard", "mlflow"],
)


def train(
    folder: Path,
    opens: Callable[..., Tracker],
    steps: range,
    resume_at: int | None = None,
    exit_code: int = 0,
) -> None:
    """Logs a row at each step and a grid at each second one."""
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    table = MetricsCSV(folder)
    if resume_at is not None:
        table.rewind(resume_at)
    tracker = opens(folder, resume_at=resume_at)
    for logger in (table, tracker):
        logger.log_hyperparams({"model": {"width": 64}})
    for step in steps:
        for logger in (table, tracker):
            logger.log_metrics({"a": step / 2}, step)
        if step % 2 == 0:
            PICTURE.save(folder / "samples" / f"{step:06d}_ema.png")
            tracker.log_picture("samples/ema", PICTURE, step, caption="rows: 0, 1")
    tracker.log_best({"iteration": 10, "fid": 4.5})
    tracker.log_best(SCORES)
    tracker.finalize("success")  # Lightning's, at the end of fit
    close_trackers([table, tracker], exit_code)


def expected(steps: range) -> Points:
    return [(step, step / 2) for step in steps]


@each
def test_a_run_and_what_resumes_it_are_one_run_that_has_no_step_twice(
    opens: Callable[..., Tracker], reads: Callable[[Path], Seen], tmp_path: Path
) -> None:
    train(tmp_path / "run", opens, range(5))
    rows, grids, best, end = reads(tmp_path / "run")
    assert (rows, grids, best) == (expected(range(5)), [0, 2, 4], SCORES)
    assert end in (0, None)
    train(tmp_path / "run", opens, range(5, 8), resume_at=4, exit_code=1)
    rows, grids, _, end = reads(tmp_path / "run")
    assert (rows, grids) == (expected(range(8)), [0, 2, 4, 6])
    assert end in (1, None)


@each
def test_a_tracker_that_joins_a_run_later_gets_all_of_it(
    opens: Callable[..., Tracker], reads: Callable[[Path], Seen], tmp_path: Path
) -> None:
    train(tmp_path / "run", Taker, range(7))
    train(tmp_path / "run", opens, range(5, 7), resume_at=4, exit_code=143)
    rows, grids, _, end = reads(tmp_path / "run")
    assert (rows, grids) == (expected(range(7)), [0, 2, 4, 6])
    assert end in (143, None)


@each
def test_a_tracker_that_fails_is_told_of_once_and_stops_nothing(
    opens: Callable[..., Tracker],
    reads: Callable[[Path], Seen],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "run").mkdir()
    table, tracker = MetricsCSV(tmp_path / "run"), opens(tmp_path / "run")
    tracker.log_hyperparams({"seed": 0})
    tried: list[Any] = []

    def broken(*arguments: Any, **more: Any) -> None:
        tried.append(arguments)
        raise ConnectionError("gone")

    names = {Wandb: "log", TensorBoard: "add_scalar", MLflow: "log_batch"}
    with monkeypatch.context() as patch:
        patch.setattr(tracker.experiment, names[type(tracker)], broken)  # type: ignore[attr-defined]
        for step in (0, 1, 2):
            table.log_metrics({"a": step / 2}, step)
            tracker.log_metrics({"a": step / 2}, step)
    (told,) = [r.getMessage() for r in caplog.records if "training goes on" in r.getMessage()]
    assert tracker.title in told
    table.log_metrics({"a": 1.5}, 3)
    tracker.log_metrics({"a": 1.5}, 3)
    tracker.log_picture("samples/ema", PICTURE, 4)
    close_trackers([tracker], exit_code=0)
    rows, *_, end = reads(tmp_path / "run")
    assert end in (0, None)
    if opens is open_mlflow:  # a server might hold up training each time: it gets the rest then
        assert (len(tried), rows) == (1, expected(range(4)))
    else:
        assert (len(tried), rows) == (3, [(3, 1.5)])


@pytest.mark.parametrize(
    ("wanted", "files", "sent"),
    [
        ("best", ["best", "last"], [("best", "best", "latest")]),
        ("best", ["last"], [("last", "best", "last", "latest")]),
        ("all", ["best", "last"], [("last", "last", "latest")]),  # the best was sent when it came
        ("none", ["best", "last"], []),
        ("best", [], []),
    ],
)
def test_the_best_checkpoint_is_sent_at_the_end_or_else_the_last(
    wanted: Any, files: list[str], sent: list[tuple[str, ...]], tmp_path: Path
) -> None:
    tracker = Taker(tmp_path)
    tracker.log_model = wanted
    (tmp_path / "checkpoints").mkdir()
    for name in files:
        (tmp_path / "checkpoints" / f"{name}.ckpt").touch()
    send_checkpoints([tracker], tmp_path, iteration=30)
    assert tracker.taken == sent


def test_a_checkpoint_reaches_wandb_and_mlflow_whole_whatever_becomes_of_its_file(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run" / "best.ckpt"
    path.parent.mkdir()
    for opens in (open_wandb, open_mlflow):
        path.write_bytes(b"first")
        tracker = opens(path.parent)
        tracker.log_hyperparams({})
        tracker.log_checkpoint(path, ["best", "latest"], SCORES)
        path.write_bytes(b"second")
        close_trackers([tracker], exit_code=0)
    (artifact,) = read_offline_runs(path.parent)[0].artifacts
    assert (artifact.type, artifact.name) == ("model", "model-own")
    assert set(artifact.aliases) == {"best", "latest"}
    assert json.loads(artifact.metadata) == SCORES
    assert Path(artifact.manifest.contents[0].local_path).read_bytes() == b"first"

    client, run = only_mlflow_run(path.parent)
    files = Path(client.download_artifacts(run.info.run_id, "checkpoints", str(tmp_path)))
    assert (files / "best.ckpt").read_bytes() == b"first"
    about = json.loads((files / "best.json").read_text())
    assert about == {"aliases": ["best", "latest"], **SCORES}


def test_tensorboard_shows_settings_beside_the_best_scores(tmp_path: Path) -> None:
    logger = TensorBoard(tmp_path)
    logger.log_hyperparams({"model": {"width": 64}, "environment": {"folder": "x"}})
    logger.log_best(SCORES)
    close_trackers([logger], exit_code=0)
    assert [path.name for path in tmp_path.iterdir()] == ["tensorboard"]
    events = reader.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("best/fid")] == [(20, 3.5)]
    kept = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"model/width" in kept
    assert b"folder" not in kept
