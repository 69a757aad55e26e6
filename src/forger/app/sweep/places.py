"""How jobs that run at once on this machine share it. Owns their places, threads and GPUs.

A place is held by a lock on a file, which ends with its process however that ends.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forger import hardware

try:
    import fcntl
except ImportError:  # Windows: jobs are not held back there
    fcntl = None  # type: ignore[assignment]

_POLL = 0.2  # seconds
CORES = "FORGER_CORES"  # of this machine that one job may use; see forger.app.run.devices


def visible_gpus() -> list[str]:
    """Returns the GPUs that programs started here would see, by the names CUDA takes.

    CUDA counts from 0 whatever their device files are called: a container may have /dev/nvidia2
    alone, which is its GPU 0.
    """
    given = hardware.given_gpus()
    return [str(n) for n in range(hardware.gpu_count())] if given is None else given


def cores() -> int:
    """Returns the processor cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def jobs_at_once() -> int:
    """Returns how many jobs suit this machine: one on each GPU, or on each core.

    A job takes about a gigabyte of memory; two are reckoned with.
    """
    gpus = visible_gpus()
    if gpus:
        return len(gpus)
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**31
    except (AttributeError, ValueError, OSError):
        memory = cores()
    return max(1, min(cores(), memory))


@contextmanager
def place(folder: Path, count: int) -> Iterator[int]:
    """Waits for one of `count` places among the processes of this machine that name `folder`.

    Yields its number, from 0.
    """
    if fcntl is None:
        yield 0
        return
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        for number in range(count):
            with (folder / f"place_{number}").open("a") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                except OSError:  # a file system without locks
                    pass
                yield number
                return
        time.sleep(_POLL)


def share(number: int, count: int) -> dict[str, str]:
    """Returns the environment of a job at one of `count` places: its threads and its GPU.

    What the user set for threads stays.
    """
    own = max(1, cores() // count)
    environment = {CORES: str(own)}
    if "OMP_NUM_THREADS" not in os.environ:
        environment["OMP_NUM_THREADS"] = str(own)
    gpus = visible_gpus()
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    return environment


def places_of(kind: str, launcher: Mapping[str, Any]) -> int | None:
    """Returns how many jobs a launcher runs at once on this machine; `None`: it divides machines.

    Args:
        kind: name of its class.
        launcher: its config.
    """
    if kind == "JoblibLauncher":
        wanted = int(launcher["n_jobs"])
        return wanted if wanted > 0 else max(1, cores() + 1 + wanted)
    if kind == "LocalLauncher":  # submitit's starts all jobs at once
        each = int(launcher.get("cpus_per_task") or 1)
        return len(visible_gpus()) or max(1, cores() // each)
    return None


def describe_places(kind: str, places: int | None) -> str:
    """Says where a launcher runs jobs, and how many at once.

    Args:
        kind: name of its class.
        places: jobs at once on this machine; `None`: it divides machines.
    """
    if kind == "BasicLauncher":
        return "one after the other, in this process"
    if places is None:
        return f"handed to {kind.removesuffix('Launcher')}, which says where and when they run"
    gpus = len(visible_gpus())
    each = max(1, cores() // places)
    share = "with a GPU" if gpus else f"with {each} CPU core{'s' if each > 1 else ''}"
    return f"up to {places} at once on this machine, each {share}"
