"""Sweeps and trackers: each job a run of its own. More in sweeps/test_launchers.py."""

from __future__ import annotations

import json
from pathlib import Path

from offline_wandb import read_offline_runs
from training import command, short


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
        path.parent.name[0]: json.loads(path.read_text())["status"]
        for path in (tmp_path / "logs").rglob("status.json")
    }
    assert found == {"0": "finished", "2": "finished"}
    sweep = next((tmp_path / "logs").rglob("status.json")).parents[1]
    trackers = {name: read_offline_runs(next(sweep.glob(f"{name}_*"))) for name in ("0", "2")}
    assert [len(runs) for runs in trackers.values()] == [1, 1]
    assert all(runs[0].exit_code == 0 for runs in trackers.values())
