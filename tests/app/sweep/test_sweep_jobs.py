"""What a sweep's folder says about its jobs, and how these share a machine."""

from __future__ import annotations

import json
import multiprocessing
import queue
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forger import hardware
from forger.app.config.command import Command
from forger.app.run.folder import locked
from forger.app.sweep.folder import Job, SweepFolder
from forger.app.sweep.process import jobs_at_once, share_of, slot, slots_of
from forger.errors import RunError

JOB = Job(number=3, overrides=("seed=3",))


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    folder = SweepFolder(tmp_path)
    folder.jobs_folder.mkdir()
    return folder


def test_a_job_is_alive_while_a_process_holds_it(sweep: SweepFolder) -> None:
    """A container that is started again gives the number of a dead process to another one."""
    with sweep.held(3) as lock:
        sweep.note(3, status="running", overrides=["seed=3"], folder="3")
        assert sweep.outcome(JOB).status == "running"
        own = subprocess.Popen(["cat"], stdin=-1, pass_fds=(lock,))
    assert sweep.outcome(JOB).status == "running", "the job's own process outlives its launcher"
    with pytest.raises(RunError, match=r"job #3 .* is being run"), sweep.held(3):
        pass
    own.communicate(b"\n")
    outcome = sweep.outcome(JOB)
    assert outcome.status == "interrupted"
    assert "process is gone" in str(outcome.reason)


@pytest.mark.parametrize("noted", ["running", "interrupted"])
@pytest.mark.parametrize("status", ["finished", "pruned", "running"])
def test_a_job_killed_before_it_could_note_its_end_ended_as_its_run_did(
    status: str, noted: str, sweep: SweepFolder, tmp_path: Path
) -> None:
    run = tmp_path / "3"
    sweep.note(3, status=noted, overrides=["seed=3"], folder="3")
    run.mkdir()
    (run / "status.json").write_text(json.dumps({"status": status}))
    (run / "config.yaml").write_text("objective: val/kid\n")
    (run / "metrics.csv").write_text("step,val/kid\n1,0.5\n2,0.25\n")
    outcome = sweep.outcome(JOB)
    assert outcome.status == {"running": "interrupted"}.get(status, status)
    assert outcome.value == (0.25 if status == "finished" else None)
    with locked(run):
        assert sweep.outcome(JOB).status == status, "somebody resumed it by itself"


def test_a_sweep_begins_with_its_record_and_without_what_an_earlier_launch_left(
    sweep: SweepFolder, tmp_path: Path
) -> None:
    assert (sweep.outcome(JOB).status, sweep.outcome(JOB).folder) == ("missing", tmp_path / "3")
    sweep.stop("asked")
    pickle = tmp_path / ".submitit" / "7" / "7_0_result.pkl"
    pickle.parent.mkdir(parents=True)
    pickle.write_bytes(b"what submitit would load")
    command = Command(tmp_path, "x", ("seed=0,3",), config_flags=("--config-name", "mine"))
    sweep.begin(command, [JOB])
    assert not sweep.stopped
    assert not pickle.exists()
    assert sweep.read()["jobs"] == [{"number": 3, "overrides": ["seed=3"]}]
    assert sweep.read()["flags"] == ["--config-name", "mine"]
    sweep.note(3, status="finished", value=0.5, overrides=["seed=3"], folder="3", seconds=2.0)
    (outcome,) = sweep.outcomes().values()
    assert (outcome.overrides, outcome.value, outcome.seconds) == (("seed=3",), 0.5, 2.0)
    sweep.job_file(3).write_text('{"status": "fin')
    assert sweep.outcome(JOB).status == "missing", "a damaged record"


def test_jobs_lie_in_the_sweep_whatever_its_record_says(sweep: SweepFolder, tmp_path: Path) -> None:
    for folder in ("../../elsewhere", "/etc", "a/../../x"):
        sweep.note(3, folder=folder, status="failed")
        assert sweep.outcome(JOB).folder == tmp_path / "3"


def hold(folder: Path, held: Any) -> None:
    with slot(folder, 2) as number:
        held.put(number)
        time.sleep(600)


def test_no_more_jobs_at_once_than_there_are_slots_and_a_killed_one_gives_its_back(
    tmp_path: Path,
) -> None:
    context = multiprocessing.get_context("fork")
    held = context.Queue()
    jobs = [context.Process(target=hold, args=(tmp_path, held), daemon=True) for _ in range(3)]
    for job in jobs:
        job.start()
    assert {held.get(timeout=60), held.get(timeout=60)} == {0, 1}
    with pytest.raises(queue.Empty):
        held.get(timeout=0.5)
    for job in jobs:  # two of them hold a slot
        job.kill()
        job.join()
    with slot(tmp_path, 2) as number:
        assert number == 0


def test_cores_and_gpus_are_divided(
    monkeypatch: pytest.MonkeyPatch, gpus: Callable[[int], None]
) -> None:
    monkeypatch.setattr(hardware, "core_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    gpus(2)
    assert jobs_at_once() == 2
    assert [share_of(number, 2) for number in range(2)] == [
        {"FORGER_CORES": "4", "OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": gpu}
        for gpu in ("0", "1")
    ]
    gpus(0)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert share_of(0, 16) == {"FORGER_CORES": "1", "OMP_NUM_THREADS": "1"}
    assert 1 <= jobs_at_once() <= 8
    for kind, launcher, expected in (
        ("BasicLauncher", {}, 1),
        ("JoblibLauncher", {"n_jobs": 3}, 3),
        ("JoblibLauncher", {"n_jobs": -1}, 8),
        ("LocalLauncher", {"cpus_per_task": 4}, 2),
        ("LocalLauncher", {"cpus_per_task": None}, 8),
        ("SlurmLauncher", {}, None),
    ):
        assert slots_of(kind, launcher) == expected
