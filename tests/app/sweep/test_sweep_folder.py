"""What a sweep's folder says about its jobs."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from forger.app.config.command import Command
from forger.app.run.folder import locked
from forger.app.sweep.folder import SweepFolder
from forger.app.sweep.jobs import Job
from forger.errors import RunError

JOB = Job(number=3, overrides=("seed=3",))


def test_a_job_is_alive_while_it_is_held_whatever_process_number_it_noted(tmp_path: Path) -> None:
    """A container that is started again gives the number of a dead process to another one."""
    sweep = SweepFolder(tmp_path)
    with sweep.held(3) as lock:
        sweep.note(3, status="running", overrides=["seed=3"], folder="3", pid=2**22 - 3)
        assert sweep.outcome(JOB).status == "running"
        own = subprocess.Popen(["cat"], stdin=-1, pass_fds=(lock,))
    assert sweep.outcome(JOB).status == "running", "the job's own process outlives its launcher"
    with pytest.raises(RunError, match=r"job #3 .* is being run"), sweep.held(3):
        pass
    own.communicate(b"\n")
    sweep.note(3, pid=os.getpid())  # alive, and another
    outcome = sweep.outcome(JOB)
    assert outcome.status == "interrupted"
    assert "process is gone" in str(outcome.reason)


@pytest.mark.parametrize("noted", ["running", "interrupted"])
@pytest.mark.parametrize("status", ["finished", "pruned", "running"])
def test_a_job_killed_before_it_could_note_its_end_ended_as_its_run_did(
    status: str, noted: str, tmp_path: Path
) -> None:
    sweep, run = SweepFolder(tmp_path), tmp_path / "3"
    sweep.note(3, status=noted, overrides=["seed=3"], folder="3", pid=os.getpid())
    run.mkdir()
    (run / "status.json").write_text(json.dumps({"status": status, "pid": os.getpid()}))
    (run / "config.yaml").write_text("objective: val/kid\n")
    (run / "metrics.csv").write_text("step,val/kid\n1,0.5\n2,0.25\n")
    outcome = sweep.outcome(JOB)
    assert outcome.status == {"running": "interrupted"}.get(status, status)
    assert outcome.value == (0.25 if status == "finished" else None)
    with locked(run):
        assert sweep.outcome(JOB).status == status, "somebody resumed it by itself"


def test_a_job_whose_record_is_missing_or_damaged_has_not_begun(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path)
    assert (sweep.outcome(JOB).status, sweep.outcome(JOB).folder) == ("missing", tmp_path / "3")
    sweep.note(3, status="finished")
    sweep.job_file(3).write_text('{"status": "fin')
    assert sweep.outcome(JOB).status == "missing"


def test_a_sweep_begins_with_its_record_and_without_what_an_earlier_launch_left(
    tmp_path: Path,
) -> None:
    sweep = SweepFolder(tmp_path)
    sweep.stop("asked")
    assert SweepFolder(tmp_path).stopped
    pickle = tmp_path / ".submitit" / "7" / "7_0_result.pkl"
    pickle.parent.mkdir(parents=True)
    pickle.write_bytes(b"what submitit would load")
    command = Command(tmp_path, "x", ("seed=0,3",), config_flags=("--config-name", "mine"))
    sweep.begin(command, [JOB])
    assert not sweep.stopped
    assert not pickle.exists()
    sweep.note(3, status="finished", value=0.5, overrides=["seed=3"], folder="3", seconds=2.0)
    assert sweep.jobs() == [JOB]
    assert sweep.read()["flags"] == ["--config-name", "mine"]
    (outcome,) = sweep.outcomes().values()
    assert (outcome.overrides, outcome.value, outcome.seconds) == (("seed=3",), 0.5, 2.0)


def test_jobs_lie_in_the_sweep_whatever_its_record_says(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path)
    for folder in ("../../elsewhere", "/etc", "a/../../x"):
        sweep.note(3, folder=folder, status="failed")
        assert sweep.outcome(JOB).folder == tmp_path / "3"
