"""Jobs that share one machine."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from forger.app.sweep import slots
from forger.app.sweep.slots import slot


def hold(folder: Path, seconds: float, log: Path) -> None:
    with slot(folder, 2) as number:
        with log.open("a") as file:
            file.write(f"+{number}\n")
        time.sleep(seconds)
        with log.open("a") as file:
            file.write(f"-{number}\n")


def test_no_more_jobs_at_once_than_there_are_slots_and_a_killed_one_gives_its_back(
    tmp_path: Path,
) -> None:
    log, context = tmp_path / "log", multiprocessing.get_context("fork")
    killed = context.Process(target=hold, args=(tmp_path, 600, tmp_path / "killed"))
    killed.start()
    while not (tmp_path / "killed").exists():
        time.sleep(0.01)
    killed.kill()
    jobs = [context.Process(target=hold, args=(tmp_path, 0.3, log)) for _ in range(5)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
        assert job.exitcode == 0
    inside: set[str] = set()
    most = 0
    for line in log.read_text().split():
        (inside.add if line[0] == "+" else inside.remove)(line[1:])
        most = max(most, len(inside))
    assert not inside
    assert most == 2


def test_cores_and_gpus_are_divided(
    monkeypatch: pytest.MonkeyPatch, gpus: Callable[[int], None]
) -> None:
    monkeypatch.setattr(slots, "cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    gpus(2)
    assert slots.jobs_at_once() == 2
    assert [slots.share_of(number, 2) for number in range(2)] == [
        {"FORGER_CORES": "4", "OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": gpu}
        for gpu in ("0", "1")
    ]
    gpus(0)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert slots.share_of(0, 16) == {"FORGER_CORES": "1"}
    assert 1 <= slots.jobs_at_once() <= 8


def test_each_launcher_tells_how_many_jobs_it_runs_here(
    monkeypatch: pytest.MonkeyPatch, gpus: Callable[[int], None]
) -> None:
    monkeypatch.setattr(slots, "cores", lambda: 8)
    gpus(0)
    assert slots.slots_of("BasicLauncher", {}) == 1
    assert slots.slots_of("JoblibLauncher", {"n_jobs": 3}) == 3
    assert slots.slots_of("JoblibLauncher", {"n_jobs": -1}) == 8
    assert slots.slots_of("LocalLauncher", {"cpus_per_task": 4}) == 2
    assert slots.slots_of("LocalLauncher", {"cpus_per_task": None}) == 8
    assert slots.slots_of("SlurmLauncher", {}) is None
