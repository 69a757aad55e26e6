"""A sweep's folder, and what its files say of the jobs: what was asked for, and how they ended.

Jobs may run in other processes and on other machines: `sweep.json` and `.jobs/<number>.json`, in a
folder that all of them see, are how they tell the sweep what became of them.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from omegaconf import OmegaConf

from forger.app.config.command import Command
from forger.app.run.folder import file_lock, is_locked, read_status
from forger.errors import DivergedError, RunError
from forger.secrets import masked
from forger.whole_files import write_json

log = logging.getLogger(__name__)

Status: TypeAlias = Literal["finished", "pruned", "failed", "interrupted", "running", "missing"]
"""`missing` has not begun; `interrupted` can go on; `pruned` was ended early by a search."""

BAD: frozenset[Status] = frozenset({"failed", "interrupted", "missing"})
"""What makes a sweep's exit code differ from 0."""

TRIAL = "sweep.trial"  # the setting that makes a job a trial of a search
_NOT_SHOWN = re.compile(r"(sweep|hydra)([./].*)?|resume")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job to launch."""

    number: int  # in the sweep, from 0
    overrides: tuple[str, ...]  # as Hydra takes them; those of the whole sweep among them


@dataclass(frozen=True, kw_only=True)
class Outcome(Job):
    """What became of one job."""

    folder: Path  # of its run; it may not exist
    status: Status
    reason: str | None = None  # why it did not finish
    error: str | None = None  # class name of what it raised, for example `DivergedError`
    value: float | None = None  # the metric that `objective` names
    seconds: float | None = None  # of all attempts


def settings_in(overrides: Iterable[str], keys: Collection[str] | None = None) -> dict[str, str]:
    """Returns the values that overrides set, or those of some keys, by key and without quotes.

    Those for the sweep, for Hydra and for a resumed run are left out. The key of `+x=1` is that of
    `x=1`; that of `~x` stays as it is.
    """
    found: dict[str, str] = {}
    for override in overrides:
        key, equals, value = override.lstrip("+").partition("=")
        if not _NOT_SHOWN.fullmatch(key.lstrip("~")):
            quotes = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
            found[key] = value[1:-1] if quotes else value if equals else "removed"
    return found if keys is None else {key: found[key] for key in keys if key in found}


def label(settings: Mapping[str, str]) -> str:
    """Returns settings in a row, as one types them."""
    return " ".join(key if key[0] == "~" else f"{key}={text}" for key, text in settings.items())


def differing_keys(jobs: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Returns the keys whose values differ between the overrides of jobs, in their order."""
    values = [settings_in(overrides) for overrides in jobs]
    keys = dict.fromkeys(key for job in values for key in job)
    return tuple(key for key in keys if len({job.get(key) for job in values}) > 1)


def read_json(path: Path) -> dict[str, Any]:
    """Returns a file's contents; nothing where it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def read_curve(path: Path, name: str) -> list[tuple[int, float]]:
    """Reads a score by iteration from a `metrics.csv`, but for a row that was cut off."""
    points: list[tuple[int, float]] = []
    try:
        with path.open(newline="", errors="replace") as file:
            for cells in csv.DictReader(line for line in file if line.endswith("\n")):
                if text := cells.get(name):
                    points.append((int(cells["step"]), float(text)))
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        log.warning("%s: damaged, read up to %d scores: %s", path, len(points), error)
    return points


@dataclass(frozen=True)
class SweepFolder:
    """The folder of one sweep, and what its files say."""

    path: Path

    @property
    def jobs_folder(self) -> Path:
        """Where jobs tell how they end."""
        return self.path / ".jobs"

    @property
    def stopped(self) -> bool:
        """Whether no further job is to begin."""
        return (self.jobs_folder / "stop").exists()

    def begin(
        self,
        command: Command,
        jobs: Sequence[Job],
        objective: str | None = None,
        minimise: bool = True,
    ) -> None:
        """Writes what a new sweep was asked for, without secrets; one that goes on keeps that."""
        self.jobs_folder.mkdir(parents=True, exist_ok=True)
        (self.jobs_folder / "stop").unlink(missing_ok=True)
        for path in self.path.glob(".submitit/**/*_result.pkl"):  # submitit would load a stranger's
            path.unlink()
        if not self.read():
            listed = [{"number": job.number, "overrides": masked(job.overrides)} for job in jobs]
            asked = {"words": masked(command.overrides), "flags": list(command.config_flags)}
            goal = {"objective": objective, "minimise": minimise}
            where = {"cwd": str(Path.cwd()), "jobs": listed}
            write_json(self.path / "sweep.json", asked | goal | where)

    def read(self) -> dict[str, Any]:
        """Returns what `begin` wrote; nothing where this is no sweep's folder."""
        return read_json(self.path / "sweep.json")

    def stop(self, reason: str) -> None:
        """Asks running jobs to save and end, and those that have not begun to stay away."""
        (self.jobs_folder / "stop").write_text(reason)

    def job_file(self, number: int, suffix: str = "json") -> Path:
        """Returns a file of one job: what it tells, its `lock`, `log` or `answer`."""
        return self.jobs_folder / f"{number}.{suffix}"

    def note(self, number: int, **content: Any) -> None:
        """Adds to what one job tells."""
        write_json(self.job_file(number), read_json(self.job_file(number)) | content)

    @contextmanager
    def held(self, number: int) -> Iterator[int]:
        """Yields the descriptor of a job's lock; the job is alive while a process holds that."""
        with file_lock(self.job_file(number, "lock")) as lock:
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
            outcome = _ended_as_its_run(outcome)
        return as_searched(outcome)

    def outcomes(self) -> dict[int, Outcome]:
        """Returns what is known about every job that has begun, by number."""
        found = {}
        for number in sorted(int(path.stem) for path in self.jobs_folder.glob("*.json")):
            overrides = read_json(self.job_file(number)).get("overrides", ())
            found[number] = self.outcome(Job(number=number, overrides=tuple(overrides)))
        return found

    def remove(self) -> None:
        """Removes the files of a sweep that trained nothing; others may lie beside them."""
        shutil.rmtree(self.jobs_folder)
        for name in ("sweep.json", ".lock"):
            (self.path / name).unlink()
        with suppress(OSError):
            self.path.rmdir()


def as_searched(job: Outcome) -> Outcome:
    """Returns a job's end; for a search, a trial that diverged was no accident and is pruned."""
    if not any(override.startswith(f"{TRIAL}=") for override in job.overrides):
        return job
    if job.error == DivergedError.__name__:
        return replace(job, status="pruned")
    if job.status == "finished" and not math.isfinite(job.value or 0.0):
        return replace(job, status="pruned", reason=f"its score is {job.value}")
    return job


def _ended_as_its_run(job: Outcome) -> Outcome:
    """Returns how a job ended that was cut off, perhaps after its run or while that is resumed."""
    run, value = read_status(job.folder) or {}, None
    if run.get("status") not in ("running", "pruned", "finished"):
        reason = job.reason or "its process is gone: killed, or a crash"
        return replace(job, status="interrupted", reason=reason, value=None)
    if run["status"] == "finished":
        with suppress(Exception):  # no objective, or a damaged file
            objective = OmegaConf.load(job.folder / "config.yaml").objective
            value = read_curve(job.folder / "metrics.csv", str(objective))[-1][1]
    return replace(job, status=run["status"], reason=run.get("reason"), value=value)
