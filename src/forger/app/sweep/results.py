"""Reads what the jobs of a sweep came to, and averages over seeds."""

from __future__ import annotations

import csv
import logging
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from forger.app.run.folder import read_status
from forger.app.sweep.jobs import SEED, Outcome, by_key, differing_keys, label
from forger.score_names import is_fid

log = logging.getLogger(__name__)

Curve = tuple[tuple[int, float], ...]
"""Iterations and scores."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One job."""

    outcome: Outcome
    overrides: Mapping[str, str]  # those that differ between the jobs, by key
    curve: Curve = ()  # the score over iterations, not always finite
    last: float | None = None  # the curve's end; without a curve, what the job returned
    best: float | None = None  # finite
    best_at: int | None = None  # iteration, the first one where several are equal
    iterations: int | None = None

    @property
    def label(self) -> str:
        """The overrides that differ between the jobs."""
        return label(self.overrides, self.overrides)

    @property
    def setting(self) -> str:
        """The same without the seed."""
        return label(self.overrides, [k for k in self.overrides if k != SEED]) or "all jobs"

    @property
    def finite(self) -> Curve:
        """The finite part of the curve."""
        return tuple(point for point in self.curve if math.isfinite(point[1]))


@dataclass(frozen=True)
class Mean:
    """Mean and sample standard deviation, `sqrt(sum (x - mean)^2 / (n - 1))`, of n values."""

    mean: float  # not finite where a value is not
    deviation: float | None
    n: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Mean | None:
        """Averages what is there; `None` for no values."""
        known = [value for value in values if value is not None]
        if not known or not all(map(math.isfinite, known)):
            return cls(sum(known), None, len(known)) if known else None
        deviation = statistics.stdev(known) if len(known) > 1 else None
        return cls(statistics.fmean(known), deviation, len(known))

    def __str__(self) -> str:
        spread = "" if self.deviation is None else f" ± {self.deviation:.2g}"
        return f"{self.mean:.4g}{spread}"


@dataclass(frozen=True)
class Setting:
    """Jobs that differ in their seed alone."""

    label: str
    rows: tuple[Row, ...]
    last: Mean | None  # of finished jobs; of pruned ones where none finished
    best: Mean | None

    @property
    def finished(self) -> int:
        """How many jobs finished."""
        return sum(row.outcome.status == "finished" for row in self.rows)


@dataclass(frozen=True)
class Results:
    """All that a sweep came to."""

    keys: tuple[str, ...]  # what differs between jobs
    score: str | None  # its name; `None`: no job has one
    minimise: bool  # whether lower scores are better
    rows: tuple[Row, ...]  # by number
    settings: tuple[Setting, ...]  # the best first; without a score as they come in the sweep


def collect(
    outcomes: Iterable[Outcome], objective: str | None = None, minimise: bool = True
) -> Results:
    """Reads the run folders of a sweep.

    Args:
        outcomes: of its jobs.
        objective: name of the score; `None`: the FID, by the features of the first job that has
            one: jobs that score by others have no score here.
        minimise: whether lower scores are better.
    """
    outcomes = sorted(outcomes, key=lambda outcome: outcome.number)
    keys = differing_keys(outcome.overrides for outcome in outcomes)
    score = objective or next(filter(None, map(fid_of, outcomes)), None)
    rows = tuple(read_row(outcome, keys, score, minimise) for outcome in outcomes)
    names = dict.fromkeys(row.setting for row in rows)
    settings = [_average(name, [row for row in rows if row.setting == name]) for name in names]

    def rank(setting: Setting) -> tuple[int, float]:
        """Finished settings by score, then pruned ones, then those without a score."""
        if setting.best is None:
            return 2, 0.0
        return (0 if setting.finished else 1), setting.best.mean * (1 if minimise else -1)

    shown = score if any(row.last is not None for row in rows) else None
    return Results(keys, shown, minimise, rows, tuple(sorted(settings, key=rank)))


def _average(name: str, rows: Sequence[Row]) -> Setting:
    """Averages over seeds; a job that ended early would pull the mean, so it counts for nothing."""
    scored = [row for row in rows if row.best is not None]
    counted = [row for row in scored if row.outcome.status == "finished"]
    counted = counted or [row for row in scored if row.outcome.status == "pruned"]
    last, best = Mean.of(row.last for row in counted), Mean.of(row.best for row in counted)
    return Setting(name, tuple(rows), last, best)


def read_row(
    outcome: Outcome, keys: Iterable[str], score: str | None = None, minimise: bool = True
) -> Row:
    """Reads what one job left; `keys` are what differs between the jobs."""
    overrides = by_key(outcome.overrides)
    curve = read_curve(outcome.folder / "metrics.csv", score) if score else ()
    last = curve[-1][1] if curve else outcome.value
    best, best_at = last if last is not None and math.isfinite(last) else None, None
    if finite := [point for point in curve if math.isfinite(point[1])]:
        best_at, best = (min if minimise else max)(finite, key=lambda point: point[1])
    iterations = (read_status(outcome.folder) or {}).get("iteration")
    return Row(
        outcome=outcome,
        overrides={key: overrides[key] for key in keys if key in overrides},
        curve=curve,
        last=last,
        best=best,
        best_at=best_at,
        iterations=iterations if isinstance(iterations, int) else None,
    )


def fid_of(outcome: Outcome) -> str | None:
    """Returns the column of a job's FID, by whatever features; `None`: it has none."""
    try:
        with (outcome.folder / "metrics.csv").open(newline="", errors="replace") as file:
            return next(filter(is_fid, next(csv.reader(file), [])), None)
    except (OSError, csv.Error):
        return None


def read_curve(path: Path, name: str) -> Curve:
    """Reads one column of a `metrics.csv`, without its empty cells and a row that was cut off."""
    points: list[tuple[int, float]] = []
    try:
        with path.open(newline="", errors="replace") as file:
            for cells in csv.DictReader(line for line in file if line.endswith("\n")):
                if text := cells.get(name):
                    points.append((int(cells["step"]), float(text)))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        log.warning("%s: damaged, read up to %d scores: %s", path, len(points), error)
    return tuple(points)
