"""Divides this machine among the jobs that run on it at once: slots, processor cores and GPUs."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forger import hardware

_POLL = 0.2  # seconds
CORES = "FORGER_CORES"  # tells a job's process how many cores of this machine it may use


def cores() -> int:
    """Returns the number of processor cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def jobs_at_once() -> int:
    """Returns how many jobs suit this machine: one on each GPU, or on each core.

    A job takes about a gigabyte of memory; two are reckoned with.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**31
    return len(hardware.visible_gpus()) or max(1, min(cores(), memory))


@contextmanager
def slot(folder: Path, count: int) -> Iterator[int]:
    """Waits for one of `count` slots among the processes of this machine that name `folder`.

    Yields its number, from 0. A lock on a file holds it, which ends with its process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        for number in range(count):
            with (folder / f"slot_{number}").open("a") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                except OSError:  # a file system without locks
                    pass
                yield number
                return
        time.sleep(_POLL)


def share_of(number: int, count: int) -> dict[str, str]:
    """Returns the environment of a job in one of `count` slots: its threads and its GPU.

    The only slot is the whole machine. What the user set for threads stays.
    """
    if count == 1:
        return {}
    own = str(max(1, cores() // count))
    environment = {CORES: own}
    if "OMP_NUM_THREADS" not in os.environ:
        environment["OMP_NUM_THREADS"] = own
    if gpus := hardware.visible_gpus():
        environment["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    return environment


def slots_of(kind: str, launcher: Mapping[str, Any]) -> int | None:
    """Returns how many jobs a launcher runs at once on this machine; `None`: it divides machines.

    `kind` is the name of its class, and `launcher` its config.
    """
    if kind == "BasicLauncher":
        return 1
    if kind == "JoblibLauncher":
        wanted = int(launcher["n_jobs"])
        return wanted if wanted > 0 else max(1, cores() + 1 + wanted)
    if kind == "LocalLauncher":  # submitit's starts all jobs at once
        each = int(launcher.get("cpus_per_task") or 1)
        return len(hardware.visible_gpus()) or max(1, cores() // each)
    return None
