"""What a sweep knows about its jobs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from forger.runs.sweeps.outcome import Job
from forger.runs.sweeps.record import SweepRecord

JOB = Job(number=3, overrides=("seed=3",))


def test_a_job_without_a_record_has_not_begun(tmp_path: Path) -> None:
    outcome = SweepRecord(tmp_path).outcome(JOB)
    assert (outcome.status, outcome.folder) == ("missing", tmp_path / "3")


def test_a_job_whose_process_is_gone_is_interrupted(tmp_path: Path) -> None:
    record = SweepRecord(tmp_path)
    record.note(3, status="running", overrides=["seed=3"], folder="3")
    assert record.outcome(JOB).status == "running"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    record.note(3, pid=gone.pid)
    outcome = record.outcome(JOB)
    assert outcome.status == "interrupted"
    assert "process is gone" in str(outcome.reason)


def test_a_damaged_record_counts_as_none(tmp_path: Path) -> None:
    record = SweepRecord(tmp_path)
    record.note(3, status="finished")
    record.path_of(3).write_text('{"status": "fin')
    assert record.outcome(JOB).status == "missing"


def test_what_began_is_known_by_number_with_its_words(tmp_path: Path) -> None:
    record = SweepRecord(tmp_path)
    record.begin(["seed=0,3"], ["--config-name", "mine"], [JOB])
    record.note(3, status="finished", value=0.5, overrides=["seed=3"], folder="3", seconds=2.0)
    assert record.jobs() == [JOB]
    assert record.read()["flags"] == ["--config-name", "mine"]
    (outcome,) = record.outcomes().values()
    assert (outcome.overrides, outcome.value, outcome.seconds) == (("seed=3",), 0.5, 2.0)


def test_a_stop_is_seen_by_all_and_taken_back(tmp_path: Path) -> None:
    record = SweepRecord(tmp_path)
    record.stop(f"asked by {os.getpid()}")
    assert SweepRecord(tmp_path).stopped
    record.may_go_on()
    assert not record.stopped
