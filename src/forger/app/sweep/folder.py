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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from forger.app.config.command import Command
from forger.app.run.folder import file_lock, is_locked, read_status
from forger.app.sweep.jobs import Job, Outcome
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

    def begin(self, command: Command, jobs: Sequence[Job]) -> None:
        """Writes what a new sweep was asked for, which a resumed one is then asked again.

        Values that look secret are left out. A search finds out its jobs as it goes. What an
        earlier launch left goes: its stop, and results that submitit would load, whose ever.
        """
        (self.jobs_folder / "stop").unlink(missing_ok=True)
        for path in self.path.glob(".submitit/**/*_result.pkl"):
            path.unlink()
        if not self.read():
            listed = [{"number": job.number, "overrides": masked(job.overrides)} for job in jobs]
            asked = {"words": masked(command.overrides), "flags": list(command.config_flags)}
            content = {**asked, "cwd": str(Path.cwd()), "jobs": listed}
            _write_json(self.path / "sweep.json", content)

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
        _write_json(self.job_file(number), read_json(self.job_file(number)) | own | content)

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
        outcome = Outcome(
            number=job.number,
            overrides=job.overrides,
            folder=folder,
            status=known.get("status", "missing"),
            **{name: known.get(name) for name in ("reason", "error", "value", "seconds")},
        )
        if (gone and outcome.status == "running") or outcome.status == "interrupted":
            return _ended_as_its_run(outcome)
        return outcome

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

    @property
    def stopped(self) -> bool:
        """Whether no further job is to begin."""
        return (self.jobs_folder / "stop").exists()

    def stop(self, reason: str) -> None:
        """Asks running jobs to save and end, and those that have not begun to stay away."""
        self.jobs_folder.mkdir(parents=True, exist_ok=True)
        (self.jobs_folder / "stop").write_text(reason)


def _ended_as_its_run(job: Outcome) -> Outcome:
    """Returns how a job ended that was cut off.

    Its run may have finished just before, or be trained by a process that was started by itself.
    """
    run, value = read_status(job.folder) or {}, None
    if run.get("status") not in ("running", "pruned", "finished"):
        reason = job.reason or "its process is gone: killed, or a crash"
        return replace(job, status="interrupted", reason=reason, value=None)
    if run["status"] == "finished":
        with suppress(Exception):  # no objective, or a damaged file
            objective = OmegaConf.load(job.folder / "config.yaml").objective
            value = read_curve(job.folder / "metrics.csv", str(objective))[-1][1]
    return replace(job, status=run["status"], reason=run.get("reason"), value=value)
