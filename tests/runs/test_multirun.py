"""Sweeps from the command line: each job alone, in its own folder."""

from __future__ import annotations

import json
from pathlib import Path

from offline_wandb import read_offline_runs
from omegaconf import OmegaConf
from training import command, short


def test_a_sweep_runs_every_job_in_its_own_folder(tmp_path: Path) -> None:
    done = command(
        "-m",
        *short(tmp_path, steps=1),
        "model=vanilla,dcgan",
        "loss=non_saturating,hinge",
        "seed=0,1",
    )
    assert done.returncode == 0, done.stderr
    runs = [path.parent for path in (tmp_path / "logs").rglob("status.json")]
    configs = [OmegaConf.load(run / "config.yaml") for run in runs]
    jobs = {(c.model.generator._target_, c.loss._target_, c.seed) for c in configs}
    assert len(runs) == len(jobs) == 8
    assert len({run.parent for run in runs}) == 1


def test_a_failing_job_stops_no_other_and_trackers_tell_them_apart(tmp_path: Path) -> None:
    """The second job cannot divide its batch; the third still runs, in a W&B run of its own."""
    done = command(
        "-m",
        *short(
            tmp_path,
            *("logger=wandb", "logger.offline=true", "data.batch_size=8,100000,16"),
            steps=1,
        ),
        environment={"WANDB_MODE": "offline"},
    )
    assert done.returncode != 0
    assert "data.batch_size=100000" in done.stderr
    assert "Traceback" not in done.stderr
    found = {
        path.parent.name: json.loads(path.read_text())["status"]
        for path in (tmp_path / "logs").rglob("status.json")
    }
    assert found == {"0": "finished", "2": "finished"}
    sweep = next((tmp_path / "logs").rglob("status.json")).parents[1]
    trackers = {name: read_offline_runs(sweep / name) for name in ("0", "2")}
    assert [len(runs) for runs in trackers.values()] == [1, 1]
    assert all(runs[0].exit_code == 0 for runs in trackers.values())


def test_two_processes_per_job_do_not_run_the_sweep_again(tmp_path: Path) -> None:
    done = command("-m", *short(tmp_path, "trainer=ddp_cpu", steps=2), "seed=0,1")
    assert done.returncode == 0, done.stderr
    runs = [path.parent for path in (tmp_path / "logs").rglob("status.json")]
    assert sorted(run.name for run in runs) == ["0", "1"]
    assert [OmegaConf.load(run / "config.yaml").seed for run in sorted(runs)] == [0, 1]
    for run in runs:
        status = json.loads((run / "status.json").read_text())
        assert (status["status"], status["iteration"]) == ("finished", 2)
