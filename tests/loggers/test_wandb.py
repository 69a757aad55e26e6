from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
from offline_wandb import OfflineRun, read_offline_runs
from PIL import Image

from forger.errors import ConfigError
from forger.loggers import MetricsCSV, Wandb, close_trackers
from forger.secrets import masked


def only_run(folder: Path, logger: Wandb, exit_code: int = 0) -> OfflineRun:
    """Closes the logger and reads back its run."""
    close_trackers([logger], exit_code)
    (run,) = read_offline_runs(folder)
    return run


def test_an_offline_run_holds_its_settings_config_images_and_a_true_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, mode = tmp_path / "run_a", os.environ.get("WANDB_MODE")
    config = {"model": {"width": 64}, "seed": 0, "long": ["text"] * 10_000}
    picture = Image.effect_noise((20, 30), 50)
    logger = Wandb(folder, project="p", offline=True, tags=("a", "b"), group="g", notes="n")
    folder.mkdir()
    logger.log_hyperparams(config)
    logger.log_picture("samples/ema", picture, step=1500)
    logger.log_picture("samples/raw", picture, step=1500, caption="rows: cat, ship")

    run = only_run(folder, logger)
    assert run.config == config
    assert (run.run.project, run.run.display_name, run.run.run_group) == ("p", "run_a", "g")
    assert (list(run.run.tags), run.run.notes, run.exit_code) == (["a", "b"], "n", 0)
    (row,) = run.history
    assert row["samples/ema"]["captions"] == ["iteration 1,500"]
    assert row["samples/raw"]["captions"] == ["iteration 1,500, rows: cat, ship"]
    with Image.open(run.images("samples/ema")[1500]) as image:
        assert image.tobytes() == picture.tobytes()
    assert os.environ.get("WANDB_MODE") == mode  # offline is the mode of this run alone
    printed = capsys.readouterr().err
    assert str(run.folder) in printed
    assert "Run history" not in printed
    assert "WARNING" not in printed


def test_scores_have_their_best_value_in_the_summary_and_no_curve_of_it(tmp_path: Path) -> None:
    logger = Wandb(tmp_path, offline=True)
    for step, fid, coverage in ((10, 5.0, 0.2), (20, 3.5, 0.5), (30, 4.0, 0.6)):
        logger.log_metrics({"train/loss_g": 1.0}, step)
        logger.log_metrics({"val/fid": fid, "val/mine_coverage": coverage}, step)
    logger.log_metrics({"own": 1.0}, step=29)  # `self.log` in a callback: it joins the last row
    logger.log_best({"iteration": 20, "fid": 3.5})
    other = Wandb(tmp_path / "other", offline=True)
    (tmp_path / "other").mkdir()
    other.log_metrics({"a": 1.0}, 1)  # the runs of one process end apart
    assert only_run(tmp_path / "other", other, exit_code=1).exit_code == 1
    close_trackers([Wandb(tmp_path / "none", offline=True)], exit_code=1)
    assert not (tmp_path / "none").exists()  # closing starts none
    run = only_run(tmp_path, logger)
    assert run.exit_code == 0
    assert run.steps("val/fid") == run.steps("train/loss_g") == [10, 20, 30]
    assert run.steps("own") == [30]
    assert (run.summary["val/fid"]["min"], run.summary["val/fid"]["last"]) == (3.5, 4.0)
    assert run.summary["val/mine_coverage"]["max"] == 0.6
    assert (run.summary["best/iteration"], run.summary["best/fid"]) == (20, 3.5)
    assert not [key for row in run.history for key in row if key.startswith("best/")]


@pytest.mark.parametrize(
    ("server", "closed_at", "first"),
    [
        (4, None, 4),  # the last step may lack something, and so is sent once more
        (7, None, 6),
        (0, None, 1),
        ("offline", None, 1),  # a kill may take the end of W&B's file
        ("offline", 2, 3),
        ("offline", 4, 5),
    ],
)
def test_a_run_killed_after_row_6_and_resumed_at_4_is_sent_what_is_missing(
    server: Any, closed_at: int | None, first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline, started, sent = server == "offline", [], []
    run = SimpleNamespace(
        step=0 if offline else server,
        config=SimpleNamespace(update=lambda *_, **__: None),
        define_metric=lambda *_, **__: None,
        log=lambda row, step: sent.append((step, row["a"])),
        finish=lambda exit_code: None,
    )
    monkeypatch.setenv("WANDB_MODE", "offline")  # needs no key
    monkeypatch.setattr("wandb.init", lambda **given: started.append(given) or run)
    table = MetricsCSV(tmp_path)
    for step in range(1, 5):
        table.log_metrics({"a": step / 2}, step)
    (tmp_path / "wandb").mkdir()
    if closed_at is not None:
        (tmp_path / "wandb" / "logged_up_to").write_text(str(closed_at))
    logger = Wandb(tmp_path, id="abc", resume_at=4, offline=offline)
    logger.log_hyperparams({"seed": 0})
    for step in (5, 6, 7):
        logger.log_metrics({"a": step / 2}, step)
    assert (started[0]["id"], started[0]["resume"]) == ("abc", None if offline else "allow")
    assert sent == [(step, step / 2) for step in range(first, 8)]
    close_trackers([logger], exit_code=0)
    assert (tmp_path / "wandb" / "logged_up_to").read_text() == "7"


def test_a_command_with_a_secret_is_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = ["train.py", "seed=1", "data.root=/secret", "resume='a=b'"]
    hidden = masked([*shown, "+a.api_key=x", "+c={b: 1, my_password: x}"])
    assert hidden == [*shown, "+a.api_key=***", "+c=***"]
    monkeypatch.setattr(sys, "argv", ["train.py", "+data.token=command-secret"])
    logger = Wandb(tmp_path, offline=True)
    logger.log_metrics({"a": 1.0}, 1)
    only_run(tmp_path, logger)
    written = [path for path in (tmp_path / "wandb").rglob("*") if path.is_file()]
    assert not [path for path in written if b"command-secret" in path.read_bytes()]


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
def test_an_online_run_needs_credentials_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError) as caught:
        Wandb(tmp_path, offline=False)
    for part in ("logger=wandb", "`wandb login`", "WANDB_API_KEY", "logger.offline=true"):
        assert part in str(caught.value)
    monkeypatch.setenv("WANDB_API_KEY", "short")
    with pytest.raises(ConfigError, match=r"40.*logger\.offline=true") as caught:
        Wandb.check({})
    assert "short" not in str(caught.value).split()


@pytest.mark.usefixtures("no_credentials")
def test_credentials_in_netrc_are_found_and_an_offline_environment_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for mode in ("offline", "disabled"):
        monkeypatch.setenv("WANDB_MODE", mode)
        Wandb.check({})
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_SILENT", "true")  # else it asks the server for the user's name
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example")
    with pytest.raises(ConfigError):
        Wandb.check({})
    key = "0123456789" * 4
    (tmp_path / "netrc").write_text(f"machine wandb.example login user password {key}\n")
    Wandb.check({})
