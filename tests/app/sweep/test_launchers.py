"""The same sweep under every launcher, and what becomes of jobs that fail or are killed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from composing import compose_config
from offline_wandb import read_offline_runs
from PIL import Image
from same import differences
from sweep_folders import table
from training import command, interruptible, short, trained
from training import rows as metrics_of

from forger.app.run.evaluate import evaluate
from forger.app.run.folder import locked

TWELVE = ("model=vanilla,dcgan", "loss=non_saturating,hinge,wgan_gp", "seed=0,1")
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
SCORED = ["metrics=quick", "metrics/features=pixels", "metrics.num_fake=200"]
SCORED += ["metrics.kid_subsets=3", "metrics.kid_subset_size=100", "condition=label"]
LAUNCHERS = [
    pytest.param((), id="basic"),
    pytest.param(JOBLIB, id="joblib", marks=pytest.mark.slow),
]


def tiny(folder: Path, *overrides: str) -> list[str]:
    """The arguments of a sweep of few iterations that writes below `folder` alone."""
    return ["-m", *short(folder, "trainer.threads=1", "metrics=none", *overrides, steps=4)]


def sweep_folder(folder: Path) -> Path:
    (found,) = (path.parent for path in (folder / "logs").rglob("sweep.json"))
    return found


def job(sweep: Path, number: int) -> Path:
    (found,) = sweep.glob(f"{number}_*")
    return found


def weights(run: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor]
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return state


def until(happens: Callable[[], bool], patience: float = 120.0) -> None:
    deadline = time.monotonic() + patience
    while not happens():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve jobs, one after the other."""
    folder = tmp_path_factory.mktemp("basic")
    done = command(*tiny(folder, *TWELVE), timeout=600)
    assert done.returncode == 0, done.stderr
    assert "12 of 12 jobs finished" in done.stdout
    return sweep_folder(folder)


@pytest.mark.slow
def test_every_combination_has_a_folder_a_row_and_a_tile_in_the_pictures(basic: Path) -> None:
    rows = table(basic)
    assert len({(row["model"], row["loss"], row["seed"]) for row in rows}) == len(rows) == 12
    assert {row["status"] for row in rows} == {"finished"}
    for row in rows:
        assert f"seed: {row['seed']}\n" in (basic / row["folder"] / "config.yaml").read_text()
    assert "model=dcgan loss=hinge" in (basic / "sweep.md").read_text().replace("\\", "")
    assert "12 of 12 jobs finished" in (basic / "report.html").read_text()
    with Image.open(basic / "samples.png") as sheet:
        assert min(sheet.size) > 200


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray"])
def test_every_launcher_computes_the_same_bits(launcher: str, basic: Path, tmp_path: Path) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    more = JOBLIB[1:] if launcher == "joblib" else ()
    done = command(*tiny(tmp_path, *TWELVE, f"hydra/launcher={launcher}", *more), timeout=600)
    assert done.returncode == 0, done.stderr
    other = sweep_folder(tmp_path)
    keys = ("number", "model", "loss", "seed", "status", "iterations", "folder")
    rows = [{key: row[key] for key in keys} for row in table(basic)]
    assert rows == [{key: row[key] for key in keys} for row in table(other)]
    for row in rows:
        ours, theirs = weights(basic / row["folder"]), weights(other / row["folder"])
        assert differences(ours, theirs) == [], row


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_killed_and_a_failing_job_stop_no_other_and_the_sweep_goes_on(
    launcher: tuple[str, ...], tmp_path: Path
) -> None:
    """Job 0 is killed, and a batch of -1 fails; what goes on equals a single run."""
    own = ["seed=1", "trainer.max_steps=300", "callbacks.checkpoint.every_n_steps=100"]
    batches = "data.batch_size=16,8,-1"
    with interruptible("train.py", *tiny(tmp_path, *own, batches, *launcher)) as process:
        until(lambda: any(tmp_path.rglob("0_*/checkpoints/last.ckpt")))
        sweep = sweep_folder(tmp_path)
        status = json.loads((job(sweep, 0) / "status.json").read_text())
        os.kill(status["pid"], signal.SIGKILL)
        output, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert f"sweep.resume={sweep}" in output, "it says how to go on"
    assert "#0 data.batch_size=16: interrupted" in output
    assert "killed by SIGKILL" in errors
    assert "data.batch_size=-1: must be a whole number of at least 1" in errors
    assert [row["status"] for row in table(sweep)] == ["interrupted", "finished", "failed"]

    kept = (job(sweep, 1) / "status.json").read_bytes()
    done = command(f"sweep.resume={sweep}")
    assert done.returncode == 2
    assert "go on with" not in done.stdout, "the same would come again"
    assert [row["status"] for row in table(sweep)] == ["finished", "finished", "failed"]
    assert (job(sweep, 1) / "status.json").read_bytes() == kept
    assert len(json.loads((job(sweep, 0) / "resumes.json").read_text())["resumes"]) == 1

    alone = trained(tmp_path / "alone", "trainer.threads=1", *own, "data.batch_size=16")
    assert differences(weights(alone), weights(job(sweep, 0))) == []


def test_the_first_failure_ends_a_sweep_that_wants_it_and_no_other_takes_its_folder(
    tmp_path: Path,
) -> None:
    done = command(*tiny(tmp_path, "data.batch_size=-1,8", "sweep.fail_fast=true"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    sweep = sweep_folder(tmp_path)
    assert [row["status"] for row in table(sweep)] == ["failed", "missing"]
    assert not [*sweep.glob("1_*")]
    before = {path: path.read_bytes() for path in sweep.rglob("*") if path.is_file()}
    done = command(*tiny(tmp_path, "seed=0,1", f"hydra.sweep.dir={sweep}"))
    assert done.returncode == 2
    assert f"hydra.sweep.dir={sweep}: holds runs already" in done.stderr
    after = {path: path.read_bytes() for path in sweep.rglob("*") if path.is_file()}
    assert after == before, "a new sweep touches no earlier one"
    with locked(sweep):
        done = command(f"sweep.resume={sweep}")
    assert done.returncode == 2
    assert "another process runs this sweep" in done.stderr


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_an_interrupted_sweep_saves_its_jobs(launcher: tuple[str, ...], tmp_path: Path) -> None:
    own = ["seed=0,1,2", "trainer.max_steps=2000", *launcher]
    with interruptible("train.py", *tiny(tmp_path, *own)) as process:
        until(lambda: any(tmp_path.rglob("0_*/metrics.csv")))
        sweep = sweep_folder(tmp_path)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=300)
    assert process.returncode == 130
    first = table(sweep)
    assert first[0]["status"] == "interrupted"
    assert first[2]["status"] == "missing"
    assert 0 < int(first[0]["iterations"]) < 2000
    assert (job(sweep, 0) / "checkpoints" / "last.ckpt").exists()


def test_a_job_ends_saved_when_its_sweep_is_killed(tmp_path: Path) -> None:
    with interruptible("train.py", *tiny(tmp_path, "seed=0", "trainer.max_steps=5000")) as process:
        until(lambda: any(tmp_path.rglob("0_*/metrics.csv")))
        process.kill()
    run = job(sweep_folder(tmp_path), 0)
    until(lambda: json.loads((run / "status.json").read_text())["status"] == "interrupted")
    assert (run / "checkpoints" / "last.ckpt").exists()


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_job_of_two_processes_returns_its_score_and_has_one_run_in_wandb(
    launcher: tuple[str, ...], tmp_path: Path
) -> None:
    own = ["trainer=ddp_cpu", "seed=3", "objective=train/loss_d", *launcher, *SCORED]
    own += ["logger=wandb", "logger.offline=true", "callbacks.samples.every_n_steps=2"]
    done = command(*tiny(tmp_path, *own), environment={"WANDB_MODE": "offline"})
    assert done.returncode == 0, done.stderr
    sweep = sweep_folder(tmp_path)
    folders = sorted(path.name for path in sweep.iterdir() if path.is_dir())
    assert [name.partition("_")[0] for name in folders] == [".jobs", "0"]
    (row,) = table(sweep)
    run = sweep / row["folder"]
    losses = [float(x["train/loss_d"]) for x in metrics_of(run) if x["train/loss_d"]]
    assert float(row["objective_value"]) == losses[-1]
    assert json.loads((run / "environment.json").read_text())["seed"] == 3
    assert_tracked(run)
    assert_scored_as_saved(run)


def assert_tracked(run: Path) -> None:
    """Both processes are one run, of the sweep's group."""
    (tracked,) = read_offline_runs(run)
    assert (tracked.run.run_group, tracked.run.job_type) == (run.parent.name, "sweep")
    assert tracked.run.display_name == "0_vanilla-non_saturating-mnist_sample-s3"
    assert (tracked.config["seed"], tracked.config["choice_model"]) == (3, "vanilla")
    assert tracked.config["environment"]["git"]["commit"] == tracked.run.git.commit
    assert tracked.steps("train/loss_g") == [1, 2, 3, 4]
    losses = [row["train/loss_g"] for row in tracked.history if "train/loss_g" in row]
    assert tracked.summary["train/loss_g"] == losses[-1]
    assert sorted(tracked.images("samples/ema")) == [0, 2, 4]
    assert tracked.exit_code == 0


def assert_scored_as_saved(run: Path) -> None:
    """Each process has BatchNorm statistics of its own; those of rank 0 are scored and saved."""
    words = [word for word in SCORED[1:] if word.startswith("metrics")]
    (record,) = evaluate(compose_config("evaluate", f"run={run}", *words))
    (row,) = [row for row in metrics_of(run) if row["val/pixels_fid"]]
    names = [name for name in row if name.startswith("val/")]
    assert {"val/pixels_fid", "val/pixels_intra_fid", "val/d_auroc"} <= set(names)
    for name in names:
        expected = record["scores"][name.removeprefix("val/")]
        assert float(row[name]) == pytest.approx(expected, rel=1e-6), name


@pytest.mark.slow
def test_a_plan_for_each_job_leaves_nothing(tmp_path: Path) -> None:
    done = command(*tiny(tmp_path, "dry_run=true", "seed=0,1"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("in all") == 2
    assert list((tmp_path / "logs").rglob("*.*")) == []
