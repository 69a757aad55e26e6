"""The folder of a run: its name, its lock, its secrets, and whether the run in it lives."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from forger.app.run.folder import file_lock, locked, read_status, run_name
from forger.errors import ConfigError
from forger.secrets import without_secrets


@pytest.mark.parametrize(
    ("choices", "seed", "name"),
    [
        ({"model": "dcgan", "loss": "hinge", "data": "mnist"}, 0, "dcgan-hinge-mnist-s0"),
        ({"model": "dcgan", "loss": "hinge", "data": "mnist"}, None, "dcgan-hinge-mnist"),
        ({"model": "mine/wide net", "loss": None}, 7, "mine_wide_net-s7"),
        ({}, None, "run"),
    ],
)
def test_a_run_is_named_by_what_was_chosen(
    choices: dict[str, Any], seed: int | None, name: str
) -> None:
    root = OmegaConf.create({"hydra": {"runtime": {"choices": choices}}, "seed": seed})
    assert run_name(_root_=root) == name


def test_secrets_are_not_written() -> None:
    kept = without_secrets({"a": [{"api_key": "x"}], "token": None, "password": "y", "seed": 0})
    assert kept == {"a": [{"api_key": "***"}], "token": None, "password": "***", "seed": 0}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run that a killed process left."""
    mark(tmp_path, "running")
    return tmp_path


def mark(run: Path, status: str, pid: int = 2**22 - 3) -> None:
    content = {"status": status, "reason": None, "host": "here", "pid": pid}
    (run / "status.json").write_text(json.dumps(content))


def status_of(run: Path) -> Any:
    return (read_status(run) or {}).get("status")


def test_running_without_a_process_reads_as_interrupted(run: Path) -> None:
    status = read_status(run) or {}
    assert status["status"] == "interrupted"
    assert "killed" in status["reason"]
    with file_lock(run / ".lock") as descriptor:
        assert status_of(run) == "running", "whatever process number another container has given"
        assert descriptor is not None
        child = os.dup(descriptor)  # as a process that is started has it
    assert status_of(run) == "running"
    os.close(child)
    mark(run, "running", pid=os.getppid())
    assert status_of(run) == "interrupted", "a number that lives again proves nothing"
    mark(run, "finished")
    assert status_of(run) == "finished"
    assert read_status(run / "samples") is None


def test_a_second_process_is_refused(run: Path) -> None:
    with locked(run):
        with pytest.raises(ConfigError, match=f"is being trained by process {2**22 - 3} on here"):
            locked(run).__enter__()
        with pytest.raises(ConfigError, match="wait for its end"):
            locked(run, "wait for its end").__enter__()
    with locked(run):
        pass


def ask(folder: Path, over: Any) -> None:
    while not over.is_set():
        read_status(folder)


def test_asking_whether_a_run_lives_keeps_none_from_starting(run: Path) -> None:
    context = multiprocessing.get_context("fork")
    over = context.Event()
    asking = [context.Process(target=ask, args=(run, over)) for _ in range(3)]
    for process in asking:
        process.start()
    try:
        for _ in range(400):
            with locked(run):
                pass
    finally:
        over.set()
        for process in asking:
            process.join()
    assert [process.exitcode for process in asking] == [0, 0, 0]
