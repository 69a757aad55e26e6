"""Jobs that share one machine."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from forger.app.run.devices import pick_device
from forger.app.sweep import places
from forger.errors import RunError


def hold(folder: Path, seconds: float, log: Path) -> None:
    with places.place(folder, 2) as number:
        with log.open("a") as file:
            file.write(f"+{number}\n")
        time.sleep(seconds)
        with log.open("a") as file:
            file.write(f"-{number}\n")


def test_no_more_jobs_at_once_than_there_are_places(tmp_path: Path) -> None:
    log = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    jobs = [context.Process(target=hold, args=(tmp_path, 0.3, log)) for _ in range(5)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
        assert job.exitcode == 0
    inside: set[str] = set()
    for line in log.read_text().split():
        if line[0] == "+":
            assert line[1:] not in inside
            inside.add(line[1:])
        else:
            inside.remove(line[1:])
        assert len(inside) <= 2


def test_a_killed_job_gives_its_place_back(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    jobs = [context.Process(target=hold, args=(tmp_path, 600, tmp_path / "log")) for _ in range(2)]
    for job in jobs:
        job.start()
    while len((tmp_path / "log").read_text().split() if (tmp_path / "log").exists() else []) < 2:
        time.sleep(0.01)
    for job in jobs:
        job.kill()
        job.join()
    with places.place(tmp_path, 2) as number:
        assert number in (0, 1)


def test_cores_and_gpus_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert places.jobs_at_once() == 2
    assert [places.share(number, 2) for number in range(2)] == [
        {"FORGER_CORES": "4", "OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": gpu}
        for gpu in ("3", "5")
    ]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert places.share(0, 16) == {"FORGER_CORES": "1"}


def test_gpus_are_numbered_as_cuda_does_whatever_their_device_files_are_called(
    gpus: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container that was given the third and the fourth has /dev/nvidia2 and /dev/nvidia3."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    gpus(2)
    assert [places.share(n, 2)["CUDA_VISIBLE_DEVICES"] for n in range(2)] == ["0", "1"]
    for names, found in {
        "GPU-8a1b, MIG-3f": ["GPU-8a1b", "MIG-3f"],
        "1,-1,0": ["1"],
        "NoDevFiles": [],
    }.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", names)
        assert places.visible_gpus() == found


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_who_is_given_a_gpu_and_finds_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    with pytest.raises(RunError, match=r"CUDA_VISIBLE_DEVICES=2: .*finds none.*trainer=cpu"):
        pick_device("auto")
    assert pick_device("cpu").type == "cpu"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert pick_device("auto").type in ("cpu", "mps")


def test_without_gpus_there_is_a_job_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert places.visible_gpus() == []
    assert 1 <= places.jobs_at_once() <= (os.cpu_count() or 1)


def test_each_launcher_tells_how_many_jobs_it_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "cores", lambda: 8)
    monkeypatch.setattr(places, "visible_gpus", list)
    assert places.places_of("JoblibLauncher", {"n_jobs": 3}) == 3
    assert places.places_of("JoblibLauncher", {"n_jobs": -1}) == 8
    assert places.places_of("LocalLauncher", {"cpus_per_task": 4}) == 2
    assert places.places_of("LocalLauncher", {"cpus_per_task": None}) == 8
    assert places.places_of("SlurmLauncher", {}) is None
