from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import wandb
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from offline_wandb import read_offline_runs
from omegaconf import DictConfig
from PIL import Image

from forger.errors import ConfigError
from forger.loggers import (
    Earlier,
    MetricsCSV,
    MLflow,
    TensorBoard,
    Tracker,
    Wandb,
    check_wandb_login,
    close_loggers,
    log_best,
    log_image,
    send_best,
    send_models,
)
from forger.loggers.tracker import Model
from forger.secrets import masked

CONFIGS = Path(__file__).parents[1] / "configs"


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_rows_are_on_disk_at_once_with_the_same_bits(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path / "run")
    third = 1 / 3
    values: dict[str, Any] = {
        "a": third,
        "b": torch.tensor(third),
        "c": np.float32(third),
        "d": 7,
        "e": 1e-300,
    }
    logger.log_metrics(values, step=50)
    (row,) = rows(tmp_path / "run")
    assert list(row) == ["step", "a", "b", "c", "d", "e"]
    assert (row["step"], row["d"]) == ("50", "7")
    for name in ("a", "b", "c", "e"):
        assert float(row[name]) == float(values[name])


def test_csv_writes_what_diverged_and_leaves_out_what_is_no_number(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path)
    texts = {"word": "x", "many": torch.zeros(2), "array": np.zeros(3), "nothing": None}
    logger.log_metrics({"a": float("nan"), "b": float("inf"), **texts}, step=1)
    assert rows(tmp_path) == [{"step": "1", "a": "nan", "b": "inf"}]


def test_csv_gains_a_column_when_a_new_name_comes(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path)
    logger.log_metrics({"a": 0.1}, step=1)
    logger.log_metrics({"a": 0.2, "val/fid": 30.5}, step=2)
    logger.log_metrics({"a": 0.3}, step=3)
    assert rows(tmp_path) == [
        {"step": "1", "a": "0.1", "val/fid": ""},
        {"step": "2", "a": "0.2", "val/fid": "30.5"},
        {"step": "3", "a": "0.3", "val/fid": ""},
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_csv_continues_after_the_rows_of_an_earlier_process(tmp_path: Path) -> None:
    MetricsCSV(tmp_path).log_metrics({"b": 0.1, "a": 1.0}, step=1)
    logger = MetricsCSV(tmp_path)
    logger.log_metrics({"a": 2.0, "b": 0.2}, step=2)
    logger.log_metrics({"a": 3.0, "b": 0.3, "c": 0.5}, step=3)
    assert [(r["step"], r["b"], r["a"], r["c"]) for r in rows(tmp_path)] == [
        ("1", "0.1", "1.0", ""),
        ("2", "0.2", "2.0", ""),
        ("3", "0.3", "3.0", "0.5"),
    ]


def test_csv_lies_in_the_run_folder_and_takes_any_hyperparameters(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path)
    logger.log_hyperparams({"model": {"width": 64}, "seed": None})
    assert (logger.save_dir, logger.name, logger.version) == (str(tmp_path), "", "")
    logger.save()
    close_loggers([logger], exit_code=0)
    assert list(tmp_path.iterdir()) == []  # no row, no file


def test_csv_is_written_by_rank_zero_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    MetricsCSV(tmp_path).log_metrics({"a": 1.0}, step=1)
    assert list(tmp_path.iterdir()) == []


def test_offline_wandb_holds_history_config_images_and_a_true_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run_a"
    folder.mkdir()
    config = {"model": {"width": 64}, "seed": 0, "long": ["word"] * 10_000}  # more than a block
    picture = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8)
    environment = dict(os.environ)

    logger = Wandb(folder, project="p", offline=True, tags=("a", "b"), group="g", notes="n")
    logger.log_hyperparams(config)
    logger.log_metrics({"train/loss_g": 0.5}, step=50)
    log_image(logger, "samples/ema", picture, step=50)
    logger.log_metrics({"train/loss_g": 0.25}, step=100)
    close_loggers([logger], exit_code=0)

    (run,) = read_offline_runs(folder)
    losses = [row for row in run.history if "train/loss_g" in row]
    assert [(r["iteration"], r["train/loss_g"]) for r in losses] == [
        (50, 0.5),
        (100, 0.25),
    ]
    assert run.config == config
    assert (run.run.project, run.run.display_name, run.run.run_group) == ("p", "run_a", "g")
    assert (list(run.run.tags), run.run.notes) == (["a", "b"], "n")
    assert run.exit_code == 0
    images = run.images("samples/ema")
    assert list(images) == [50]
    with Image.open(images[50]) as image:
        assert image.tobytes() == picture.permute(1, 2, 0).numpy().tobytes()

    assert os.environ.get("WANDB_MODE") == environment.get("WANDB_MODE")
    printed = capsys.readouterr().err
    assert str(run.folder) in printed
    assert "Run history" not in printed
    assert "WARNING" not in printed


def test_runs_that_follow_each_other_end_apart(tmp_path: Path) -> None:
    for name, exit_code in (("failed", 1), ("finished", 0)):
        (tmp_path / name).mkdir()
        logger = Wandb(tmp_path / name, offline=True)
        logger.log_metrics({"a": exit_code}, step=1)
        close_loggers([logger], exit_code)
    for name, exit_code in (("failed", 1), ("finished", 0)):
        (run,) = read_offline_runs(tmp_path / name)
        assert run.exit_code == exit_code
        assert [row["a"] for row in run.history] == [exit_code]


def test_closing_starts_no_run(tmp_path: Path) -> None:
    close_loggers([Wandb(tmp_path, offline=True)], exit_code=1)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    wandb.teardown()  # forgets settings, and its service with them
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    yield
    wandb.teardown()


@pytest.mark.usefixtures("no_credentials")
def test_an_online_run_without_credentials_is_refused_before_it_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Wandb(tmp_path, offline=False)
    for word in ("logger=wandb", "`wandb login`", "WANDB_API_KEY", "logger.offline=true"):
        assert word in str(caught.value)


@pytest.mark.usefixtures("no_credentials")
def test_a_malformed_key_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "short")
    with pytest.raises(ConfigError, match=r"40.*logger\.offline=true") as caught:
        check_wandb_login()
    assert "short" not in str(caught.value).split()


@pytest.mark.usefixtures("no_credentials")
def test_credentials_in_netrc_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")  # else it asks the server for the user's name
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example")
    key = "0123456789" * 4
    (tmp_path / "netrc").write_text(f"machine wandb.example login user password {key}\n")
    check_wandb_login()


@pytest.mark.usefixtures("no_credentials")
@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_wandb_switched_off_by_the_environment_needs_no_credentials(
    monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    check_wandb_login()


def test_tensorboard_gets_scalars_and_images_in_its_own_folder(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = make("logger=tensorboard", tmp_path)["tensorboard"]
    assert isinstance(logger, TensorBoardLogger)
    logger.log_hyperparams({"model": {"width": 64}})
    logger.log_metrics({"train/loss_g": 0.5}, step=50)
    log_image(logger, "samples/ema", torch.zeros(3, 4, 5, dtype=torch.uint8), step=50)
    close_loggers([logger], exit_code=0)

    assert [path.name for path in tmp_path.iterdir()] == ["tensorboard"]
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss_g")] == [(50, 0.5)]
    (image,) = events.Images("samples/ema")
    assert (image.step, image.width, image.height) == (50, 5, 4)


def config(*overrides: str) -> DictConfig:
    """The logger part of the main config, with the groups that loggers do not need left out."""
    others = ["model", "loss", "data", "optimizer", "schedule", "trainer", "callbacks"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", overrides=[*(f"~{name}" for name in others), *overrides])


def make(override: str, folder: Path, *more: str) -> dict[str, Any]:
    nodes = config(override, *more).get("logger") or {}
    return {
        name: instantiate(node, save_dir=str(folder), _convert_="all")
        for name, node in nodes.items()
        if isinstance(node, DictConfig) and "_target_" in node
    }


def test_csv_alone_adds_no_logger(tmp_path: Path) -> None:
    assert make("logger=csv", tmp_path) == {}


def test_the_words_of_the_command_line_reach_wandb(tmp_path: Path) -> None:
    words = ["logger.project=mine", "logger.tags=[a,b]", "logger.group=g", "logger.offline=true"]
    (logger,) = make("logger=wandb", tmp_path, *words).values()
    logger.log_metrics({"a": 1.0}, step=1)
    close_loggers([logger], exit_code=0)
    (run,) = read_offline_runs(tmp_path)
    assert (run.run.project, list(run.run.tags), run.run.run_group) == ("mine", ["a", "b"], "g")


def test_tags_are_a_list(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"logger\.tags='ab'.*\[ab\]"):
        Wandb(tmp_path, offline=True, tags="ab")


def test_all_trackers_together(tmp_path: Path) -> None:
    loggers = make("logger=[wandb,tensorboard,mlflow]", tmp_path, "logger.offline=true")
    assert {name: type(logger) for name, logger in loggers.items()} == {
        "wandb": Wandb,
        "tensorboard": TensorBoard,
        "mlflow": MLflow,
    }


SCORES = {"iteration": 20, "fid": 3.5, "coverage": 0.5}


def test_wandb_has_the_iteration_as_x_axis_and_the_best_in_the_summary(tmp_path: Path) -> None:
    logger = Wandb(tmp_path, offline=True)
    logger.log_hyperparams({"seed": 0})
    for step, fid, coverage in ((10, 5.0, 0.2), (20, 3.5, 0.5), (30, 4.0, 0.6)):
        logger.log_metrics({"val/fid": fid, "val/mine_coverage": coverage}, step)
    log_best([logger, MetricsCSV(tmp_path)], SCORES)
    close_loggers([logger], exit_code=0)
    (run,) = read_offline_runs(tmp_path)
    assert run.metrics["*"].step_metric == "iteration"
    assert {metric.step_metric for metric in run.metrics.values()} == {"", "iteration"}
    assert run.summary["val/fid"] == {"min": 3.5, "last": 4.0}
    assert run.summary["val/mine_coverage"] == {"max": 0.6, "last": 0.6}
    assert {f"best/{name}": run.summary[f"best/{name}"] for name in SCORES} == {
        f"best/{name}": value for name, value in SCORES.items()
    }
    assert not [key for row in run.history for key in row if key.startswith("best/")]
    assert not tmp_path.joinpath("metrics.csv").exists()


def test_pictures_in_wandb_say_their_iteration(tmp_path: Path) -> None:
    logger = Wandb(tmp_path, offline=True)
    log_image(logger, "samples/ema", torch.zeros(1, 4, 4, dtype=torch.uint8), step=1500)
    close_loggers([logger], exit_code=0)
    (run,) = read_offline_runs(tmp_path)
    assert run.history[0]["samples/ema"]["captions"] == ["iteration 1,500"]


def test_a_checkpoint_sent_to_wandb_stays_whole_when_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints" / "best.ckpt"
    path.write_bytes(b"first")
    every = Wandb(tmp_path, offline=True, log_model="all")
    never = Wandb(tmp_path, offline=True)
    log_best([every], SCORES)
    send_best([every, never], path)
    path.with_name("new").write_bytes(b"second")
    path.with_name("new").replace(path)
    path.with_name("last.ckpt").write_bytes(b"last")
    send_models([every, never], tmp_path, iteration=30)
    close_loggers([every, never], exit_code=0)
    (run,) = read_offline_runs(tmp_path)
    best, last = run.artifacts
    assert (best.type, best.name) == ("model", f"model-{run.run.run_id}")
    assert set(best.aliases) == {"best", "latest"}
    assert json.loads(best.metadata) == SCORES
    assert Path(best.manifest.contents[0].local_path).read_bytes() == b"first"
    assert set(last.aliases) == {"last", "latest"}
    assert json.loads(last.metadata) == {"iteration": 30}


@pytest.mark.parametrize(
    ("files", "sent"), [(["best", "last"], "best"), (["last"], "last"), ([], None)]
)
def test_the_best_checkpoint_is_sent_at_the_end_or_else_the_last(
    tmp_path: Path, files: list[str], sent: str | None
) -> None:
    class Taken(Tracker, MetricsCSV):
        log_model = "best"
        models: ClassVar[list[Model]] = []

        def send_model(self, model: Model) -> None:
            self.models.append(model)

    logger = Taken(tmp_path)
    logger.log_best(SCORES)
    (tmp_path / "checkpoints").mkdir()
    for name in files:
        (tmp_path / "checkpoints" / f"{name}.ckpt").touch()
    Taken.models.clear()
    send_best([logger], tmp_path / "checkpoints" / "best.ckpt")
    send_models([logger], tmp_path, iteration=30)
    assert [model.path.stem for model in logger.models] == ([sent] if sent else [])
    assert all({"best", "latest"} <= set(model.aliases) for model in logger.models)


def test_a_tracker_that_fails_is_told_of_once_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logger = Wandb(tmp_path, offline=True)
    logger.log_metrics({"a": 1.0}, 1)

    def broken(*arguments: object, **more: object) -> None:
        raise ConnectionError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(logger.experiment, "log", broken)
        for step in (2, 3):
            logger.log_metrics({"a": 1.0}, step)
    close_loggers([logger], exit_code=0)
    (told,) = [record.getMessage() for record in caplog.records if "W&B" in record.getMessage()]
    assert "gone" in told
    assert read_offline_runs(tmp_path)[0].exit_code == 0


class Online:
    """What a resumed run of W&B's server is like, as far as this is used."""

    def __init__(self, step: int | None) -> None:
        self.offline, self.resumed = False, step is not None
        self.summary = {} if step is None else {"iteration": step}
        self.settings = SimpleNamespace(sync_dir="nowhere")
        self.config, self.rows = self, []

    def define_metric(self, *names: str, **settings: Any) -> None: ...
    def update(self, *config: Any, **settings: Any) -> None: ...

    def log(self, row: dict[str, Any], step: int | None = None, commit: bool = True) -> None:
        assert step is None  # the server goes on with its own count
        self.rows.append(row)


@pytest.mark.parametrize(("at", "sent"), [(2, [3, 4]), (None, [1, 2, 3, 4])])
def test_a_resumed_online_run_is_sent_what_its_server_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int | None, sent: list[int]
) -> None:
    """Killed after row 4, with a checkpoint of iteration 3."""
    online, started = Online(at), []

    def init(**settings: Any) -> Online:
        started.append(settings)
        return online

    monkeypatch.setenv("WANDB_MODE", "offline")  # needs no key
    monkeypatch.setattr("wandb.init", init)
    rows = tuple((step, {"a": float(step)}) for step in (1, 2, 3))
    logger = Wandb(tmp_path, id="abc")
    logger.go_on(Earlier(rows, at=3, last=4, tracked=True))
    logger.log_hyperparams({"seed": 0})
    logger.log_metrics({"a": 4.0}, step=4)
    assert [row["iteration"] for row in online.rows] == sent
    assert started[0]["id"] == "abc"
    assert started[0]["resume"] == "allow"


def test_a_run_of_an_agent_takes_its_id_and_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SWEEP_ID": "s1", "RUN_ID": "r1", "PROJECT": "theirs"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    wandb.teardown()
    logger = Wandb(tmp_path, offline=True, id="other", project="ours", entity="we")
    logger.log_metrics({"a": 1.0}, 1)
    close_loggers([logger], exit_code=0)
    wandb.teardown()
    (run,) = read_offline_runs(tmp_path)
    assert (run.run.run_id, run.run.project, run.run.sweep_id) == ("r1", "theirs", "s1")


def test_tensorboard_shows_settings_beside_the_best_scores(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = TensorBoard(tmp_path)
    logger.log_hyperparams({"model": {"width": 64}, "environment": {"folder": "x"}})
    logger.log_metrics({"a": 1.0}, step=10)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("a")] == [10]  # at once
    log_best([logger], SCORES)
    logger.finalize("success")  # Lightning's, at the end of fit
    close_loggers([logger], exit_code=0)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("best/fid")] == [(20, 3.5)]
    kept = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"model/width" in kept
    assert b"folder" not in kept


def test_a_word_that_may_be_a_secret_is_masked() -> None:
    words = ["train.py", "seed=1", "data.root=/secret", "resume='a=b'"]
    assert masked([*words, "+a.api_key=x", "+c={b: 1, my_password: x}"]) == [
        *words,
        "+a.api_key=***",
        "+c=***",
    ]
