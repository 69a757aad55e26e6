"""A sweep's folder: `sweep.json`, and `.jobs/<number>.json` for each job.

Jobs may run in other processes and on other machines: these files, in a folder that all of them
see, are how they tell the sweep what became of them.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from forger.app.run.folder import file_lock, is_locked, read_status
from forger.app.sweep.jobs import Job, Outcome, Status
from forger.app.sweep.results import read_curve
from forger.errors import RunError
from forger.secrets import masked
from forger.whole_files import write_whole


def read_json(path: Path) -> dict[str, Any]:
    """Returns a file's contents; nothing where it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(content, indent=2) + "\n").encode())


@dataclass(frozen=True)
class SweepFolder:
    """The folder of one sweep, and what its files say."""

    path: Path

    @property
    def jobs_folder(self) -> Path:
        """Where jobs tell how they end."""
        return self.path / ".jobs"

    def begin(self, overrides: Sequence[str], flags: Sequence[str], jobs: Sequence[Job]) -> None:
        """Writes what the sweep was asked for, which a resumed one is then asked again.

        Values that look secret are left out. `flags` are those that say which config is meant; a
        search finds out its jobs as it goes.
        """
        listed = [{"number": job.number, "overrides": masked(job.overrides)} for job in jobs]
        content = {"words": masked(overrides), "flags": [*flags], "cwd": str(Path.cwd())}
        _write_json(self.path / "sweep.json", content | {"jobs": listed})

    def read(self) -> dict[str, Any]:
        """Returns what `begin` wrote; nothing where this is no sweep's folder."""
        return read_json(self.path / "sweep.json")

    def jobs(self) -> list[Job]:
        """Returns the jobs that the sweep was begun with."""
        return [
            Job(number=int(job["number"]), overrides=tuple(job["overrides"]))
            for job in self.read().get("jobs", ())
        ]

    def job_file(self, number: int, suffix: str = "json") -> Path:
        """Returns a file of one job: what it tells, its `lock`, `log` or `answer`."""
        return self.jobs_folder / f"{number}.{suffix}"

    def note(self, number: int, **content: Any) -> None:
        """Adds to what one job tells."""
        own = {"host": socket.gethostname(), "pid": os.getpid(), "updated": time.time()}
        path = self.job_file(number)
        _write_json(path, read_json(path) | own | content)

    @contextmanager
    def held(self, number: int) -> Iterator[int]:
        """Holds a job, which is alive until this ends or its process does.

        Yields:
            The descriptor of its lock: a process that inherits it keeps the job alive as well.

        Raises:
            RunError: another process holds it.
        """
        path = self.job_file(number, "lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(path) as lock:
            if lock is None:
                raise RunError(f"job #{number} of {self.path} is being run by another process")
            yield lock

    def outcome(self, job: Job) -> Outcome:
        """Returns what is known about a job by now."""
        path = self.job_file(job.number)
        known = read_json(path)
        gone = known.get("status") == "running" and not is_locked(path.with_suffix(".lock"))
        if gone:  # it may have told how it ended just before it let go
            known = read_json(path)
        folder = self.path / str(known.get("folder", job.number))
        if not folder.resolve().is_relative_to(self.path.resolve()):  # somebody else's record
            folder = self.path / str(job.number)
        status: Status = known.get("status", "missing")
        reason, value = known.get("reason"), known.get("value")
        if (gone and status == "running") or status == "interrupted":
            gone_reason = "its process is gone: killed, or a crash"
            status, reason, value = _end_of_run(folder, reason or gone_reason)
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
        found = {}
        for number in sorted(int(path.stem) for path in self.jobs_folder.glob("*.json")):
            overrides = read_json(self.job_file(number)).get("overrides", ())
            found[number] = self.outcome(Job(number=number, overrides=tuple(overrides)))
        return found

    def remove_run_folder(self, folder: Path) -> None:
        """Removes the folder of a job that has not trained: it holds logs alone."""
        if folder.is_dir() and all(path.suffix == ".log" for path in folder.iterdir()):
            shutil.rmtree(folder)

    def remove(self) -> None:
        """Removes a sweep that trained nothing: its own files, and folders that hold logs alone."""
        for outcome in self.outcomes().values():
            self.remove_run_folder(outcome.folder)
        shutil.rmtree(self.jobs_folder, ignore_errors=True)
        for name in ("sweep.json", ".lock"):
            (self.path / name).unlink(missing_ok=True)
        with suppress(OSError):  # something else lies there
            self.path.rmdir()

    def remove_pickles(self) -> None:
        """Removes results of earlier launches, which submitit would load, whose ever they are."""
        for path in self.path.glob(".submitit/**/*_result.pkl"):
            path.unlink()

    @property
    def stopped(self) -> bool:
        """Whether no further job is to begin."""
        return (self.jobs_folder / "stop").exists()

    def stop(self, reason: str) -> None:
        """Asks running jobs to save and end, and those that have not begun to stay away."""
        self.jobs_folder.mkdir(parents=True, exist_ok=True)
        (self.jobs_folder / "stop").write_text(reason)

    def clear_stop(self) -> None:
        """Takes back what `stop` asked."""
        (self.jobs_folder / "stop").unlink(missing_ok=True)


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
        return "finished", None, _value_of(folder)
    return "interrupted", reason, None


def _value_of(folder: Path) -> float | None:
    """Returns the last value of the metric that a run's `objective` names, if it names one."""
    with suppress(Exception):  # what is damaged has no value
        objective = OmegaConf.load(folder / "config.yaml").objective
        return read_curve(folder / "metrics.csv", str(objective))[-1][1]
    return None
