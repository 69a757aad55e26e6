"""The files by which a sweep knows itself: `sweep.json`, and `.jobs/<number>.json` for each job.

Owns their contents. Jobs may run in other processes and on other machines: these files, in a folder
that all of them see, are how they tell the sweep what became of them. Imports no torch.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from forger.app.run.folder import file_lock, is_locked, read_status
from forger.app.sweep.outcome import Job, Outcome, Status
from forger.app.sweep.rows import read_curve
from forger.errors import RunError
from forger.secrets import masked
from forger.whole_files import write_whole

RECORD = "sweep.json"
_JOBS = ".jobs"
_STOP = "stop"
_GONE = "its process is gone: killed, or a crash"


def read_json(path: Path) -> dict[str, Any]:
    """Returns a file's contents; nothing where it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(content, indent=2) + "\n").encode())


@dataclass(frozen=True)
class SweepRecord:
    """The record of the sweep in one folder."""

    folder: Path

    def begin(self, words: Sequence[str], flags: Sequence[str], jobs: Sequence[Job]) -> None:
        """Writes what the sweep was asked for, which a resumed one is then asked again.

        Values of words that look secret are left out.

        Args:
            words: of the command, without its flags.
            flags: those that say which config is meant.
            jobs: all that are known by now; a search finds out as it goes.
        """
        listed = [{"number": job.number, "overrides": masked(job.overrides)} for job in jobs]
        content = {
            "words": masked(words),
            "flags": [*flags],
            "cwd": str(Path.cwd()),
            "jobs": listed,
        }
        _write(self.folder / RECORD, content)

    def read(self) -> dict[str, Any]:
        """Returns what `begin` wrote; nothing where this is no sweep's folder."""
        return read_json(self.folder / RECORD)

    def jobs(self) -> list[Job]:
        """Returns the jobs that the sweep was begun with."""
        return [
            Job(number=int(job["number"]), overrides=tuple(job["overrides"]))
            for job in self.read().get("jobs", ())
        ]

    def path_of(self, number: int, suffix: str = "json") -> Path:
        """Returns the file of one job: its record, or with another suffix one beside it."""
        return self.folder / _JOBS / f"{number}.{suffix}"

    def note(self, number: int, **content: Any) -> None:
        """Adds to a job's record."""
        own = {"host": socket.gethostname(), "pid": os.getpid(), "updated": time.time()}
        path = self.path_of(number)
        _write(path, read_json(path) | own | content)

    @contextmanager
    def held(self, number: int) -> Iterator[int]:
        """Holds a job, which is alive until this ends or its process does.

        Yields:
            The descriptor of its lock: a process that is given it keeps the job alive as well.

        Raises:
            RunError: another process holds it.
        """
        path = self.path_of(number, "lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(path) as lock:
            if lock is None:
                raise RunError(f"job #{number} of {self.folder} is being run by another process")
            yield lock

    def outcome(self, job: Job) -> Outcome:
        """Returns what is known about a job by now."""
        path, lock = self.path_of(job.number), self.path_of(job.number, "lock")
        known = read_json(path)
        gone = known.get("status") == "running" and not is_locked(lock)
        if gone:  # it may have told how it ended just before it let go
            known = read_json(path)
        folder = self.folder / str(known.get("folder", job.number))
        if not folder.resolve().is_relative_to(self.folder.resolve()):  # somebody else's record
            folder = self.folder / str(job.number)
        status: Status = known.get("status", "missing")
        reason, value = known.get("reason"), known.get("value")
        if (gone and status == "running") or status == "interrupted":
            status, reason, value = _end_of_run(folder, reason or _GONE)
        return Outcome(
            number=job.number,
            overrides=job.overrides,
            folder=folder,
            status=status,
            reason=reason,
            error=known.get("error"),
            value=value,
            seconds=known.get("seconds"),
        )

    def outcomes(self) -> dict[int, Outcome]:
        """Returns what is known about every job that has begun, by number."""
        numbers = sorted(int(p.stem) for p in (self.folder / _JOBS).glob("*.json"))
        found = {}
        for number in numbers:
            words = read_json(self.path_of(number)).get("overrides", ())
            found[number] = self.outcome(Job(number=number, overrides=tuple(words)))
        return found

    def remove(self, folders: Iterable[Path]) -> None:
        """Removes a sweep that trained nothing: its own files, and folders that hold logs alone."""
        for folder in folders:
            if folder.is_dir() and all(path.suffix == ".log" for path in folder.iterdir()):
                shutil.rmtree(folder)
        shutil.rmtree(self.folder / _JOBS, ignore_errors=True)
        for name in (RECORD, ".lock"):
            (self.folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # something else lies there
            self.folder.rmdir()

    def stop(self, reason: str) -> None:
        """Asks running jobs to save and end, and those that have not begun to stay away."""
        path = self.folder / _JOBS / _STOP
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(reason, encoding="utf-8")

    def may_go_on(self) -> None:
        """Takes back what `stop` asked."""
        (self.folder / _JOBS / _STOP).unlink(missing_ok=True)

    def remove_pickles(self) -> None:
        """Removes results of earlier launches, which submitit would load, whose ever they are."""
        for path in self.folder.glob(".submitit/**/*_result.pkl"):
            path.unlink()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return (self.folder / _JOBS / _STOP).exists()


def _end_of_run(folder: Path, reason: str) -> tuple[Status, str | None, float | None]:
    """Returns how a job ended that was cut off: status, reason and value.

    Its run may have finished just before, or be trained by a process that was started by itself.
    """
    run = read_status(folder) or {}
    if run.get("status") == "running":
        return "running", None, None
    if run.get("status") == "pruned":
        return "pruned", run.get("reason"), None
    if run.get("status") == "finished":
        return "finished", None, value_of(folder)
    return "interrupted", reason, None


def value_of(folder: Path) -> float | None:
    """Returns the last value of the metric that a run's `objective` names, if it names one."""
    with suppress(Exception):  # what is damaged has no value
        config: Any = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"), resolve=False)
        return read_curve(folder / "metrics.csv", str(config["objective"]))[-1][1]
    return None
