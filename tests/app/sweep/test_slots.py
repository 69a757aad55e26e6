"""Jobs that share one machine."""

from __future__ import annotations

import multiprocessing
import queue
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forger.app.sweep import slots
from forger.app.sweep.slots import slot


def hold(folder: Path, held: Any) -> None:
    with slot(folder, 2) as number:
        held.put(number)
        time.sleep(600)


def test_no_more_jobs_at_once_than_there_are_slots_and_a_killed_one_gives_its_back(
    tmp_path: Path,
) -> None:
    context = multiprocessing.get_context("fork")
    held = context.Queue()
    jobs = {n: context.Process(target=hold, args=(tmp_path, held), daemon=True) for n in range(3)}
    for job in jobs.values():
        job.start()
    assert {held.get(timeout=60), held.get(timeout=60)} == {0, 1}
    with pytest.raises(queue.Empty):
        held.get(timeout=0.5)
    for job in jobs.values():  # two of them hold a slot
        job.kill()
        job.join()
    with slot(tmp_path, 2) as number:
        assert number == 0


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
