"""Reads what the jobs of a sweep came to, and writes it: lines, tables and pictures.

No failure here fails a sweep. Nothing heavy is imported before there are pictures to draw.
"""

from __future__ import annotations

import csv
import logging
import math
import os
import statistics
import textwrap
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from operator import itemgetter
from pathlib import Path

from forger.app.run.folder import read_status
from forger.app.run.tables import Table
from forger.app.sweep.folder import Outcome, differing_keys, label, read_curve, settings_in
from forger.score_names import is_fid
from forger.whole_files import remove_leftovers, write_whole

log = logging.getLogger(__name__)

_MOST = 30  # settings in the terminal; the best ones stay in sight


@dataclass(frozen=True)
class Row:
    """What one job came to."""

    outcome: Outcome
    settings: dict[str, str]  # those that differ between the jobs
    curve: list[tuple[int, float]]  # finite scores by iteration
    last: float | None  # score, perhaps not finite; without a curve, what the job returned
    best: float | None
    best_at: int | None  # iteration, the first one where several are equal


@dataclass(frozen=True)
class Setting:
    """Jobs that differ in their seed alone."""

    label: str
    rows: list[Row]
    counted: list[Row]  # with a score: finished jobs, or pruned ones where none finished

    @property
    def mean(self) -> str:
        """Of the best scores, with their deviation."""
        return mean_of(row.best for row in self.counted)


@dataclass(frozen=True)
class Results:
    """All that a sweep came to."""

    keys: tuple[str, ...]  # what differs between jobs
    score: str | None  # its name; `None`: no job has one
    better: str  # `lower` or `higher`
    rows: list[Row]  # by number
    settings: list[Setting]  # the best first; without a score as they come in the sweep

    @property
    def summary(self) -> tuple[str, str]:
        """How many jobs finished, and what their scores are."""
        count = sum(row.outcome.status == "finished" for row in self.rows)
        scores = f"{self.score} ({self.better} is better): mean ± sample standard deviation"
        finished = f"{count} of {len(self.rows)} jobs finished"
        return finished, "no job has a score" if self.score is None else f"{scores} over n seeds"


def collect(
    outcomes: Iterable[Outcome], objective: str | None = None, minimise: bool = True
) -> Results:
    """Reads the run folders of a sweep's jobs.

    Without an `objective` the score is the FID, by the features of the first job that has one: jobs
    that score by others have no score here.
    """
    outcomes = sorted(outcomes, key=lambda outcome: outcome.number)
    keys = differing_keys(outcome.overrides for outcome in outcomes)
    score = objective or next(filter(None, map(_fid_of, outcomes)), None)
    rows = [read_row(outcome, keys, score, minimise) for outcome in outcomes]
    by_setting: dict[str, list[Row]] = {}
    for row in rows:
        own = {key: text for key, text in row.settings.items() if key != "seed"}
        by_setting.setdefault(label(own) or "all jobs", []).append(row)
    ranked = []  # finished settings by score, then pruned ones, then those without a score
    for name, some in by_setting.items():
        scored = [row for row in some if row.best is not None]
        finished = [row for row in scored if row.outcome.status == "finished"]
        counted = finished or [row for row in scored if row.outcome.status == "pruned"]
        mean = statistics.fmean(row.best or 0.0 for row in counted) if counted else 0.0
        rank = (0 if finished else 1 if counted else 2, mean if minimise else -mean)
        ranked.append((rank, Setting(name, some, counted)))
    settings = [setting for _, setting in sorted(ranked, key=itemgetter(0))]
    shown = score if any(row.last is not None for row in rows) else None
    better = "lower" if minimise else "higher"
    return Results(keys, shown, better, rows, settings)


def read_row(
    outcome: Outcome, keys: Collection[str] | None, score: str | None, minimise: bool
) -> Row:
    """Reads what one job left; `keys` are what differs between the jobs, `None` shows all."""
    curve = read_curve(outcome.folder / "metrics.csv", score) if score else []
    finite = [(iteration, value) for iteration, value in curve if math.isfinite(value)]
    last = curve[-1][1] if curve else outcome.value
    best, best_at = last if last is not None and math.isfinite(last) else None, None
    if finite:
        best_at, best = (min if minimise else max)(finite, key=lambda point: point[1])
    return Row(outcome, settings_in(outcome.overrides, keys), finite, last, best, best_at)


def _fid_of(outcome: Outcome) -> str | None:
    """Returns the column of a job's FID, by whatever features; `None`: it has none."""
    try:
        with (outcome.folder / "metrics.csv").open(newline="", errors="replace") as file:
            return next(filter(is_fid, next(csv.reader(file), [])), None)
    except (OSError, csv.Error):
        return None


def mean_of(scores: Iterable[float | None]) -> str:
    """Writes a mean ± the sample standard deviation, `sqrt(sum (x - mean)^2 / (n - 1))`."""
    values = [score for score in scores if score is not None]
    if len(values) > 1 and all(map(math.isfinite, values)):
        return f"{statistics.fmean(values):.4g} ± {statistics.stdev(values):.2g}"
    return f"{sum(values) / len(values):.4g}" if values else ""


def reason(outcome: Outcome) -> str:
    """Returns the first line of why a job did not finish; empty where nothing is known."""
    return next(iter((outcome.reason or outcome.error or "").strip().splitlines()), "").strip()


def line(
    outcome: Outcome, keys: Collection[str] | None, objective: str | None, minimise: bool
) -> str:
    """Returns the line that tells of the end of one job; `keys` as for `read_row`."""
    score = objective or _fid_of(outcome)
    row = read_row(outcome, keys, score, minimise)
    text = f"#{outcome.number} {label(row.settings)}".rstrip() + f": {outcome.status}"
    if outcome.seconds is not None:
        preposition = "in" if outcome.status == "finished" else "after"
        text += f" {preposition} {timedelta(seconds=round(outcome.seconds))}"
    if row.last is not None and outcome.status in ("finished", "pruned"):
        at = "" if row.best_at is None else f" (best {row.best:.4g} at {row.best_at})"
        text += f", {score} {row.last:.4g}{at}"
    return ": ".join(filter(None, (text, reason(outcome))))


def write_report(
    folder: Path, outcomes: Sequence[Outcome], objective: str | None, minimise: bool, width: int
) -> str:
    """Writes `sweep.csv`, `sweep.md`, `samples.png` and `scores.png` into the sweep's folder.

    What has no content is not written, and removed where an earlier report left it. A file that
    cannot be written is a warning. Returns the table of settings and the files written, for a
    terminal of so many columns.
    """
    results = collect(outcomes, objective, minimise)
    jobs = jobs_table(results, folder)
    written: list[Path] = []

    def picture(kind: str) -> bytes | None:
        from forger.app.sweep import pictures  # imports matplotlib and PIL

        draw: Callable[[Results], bytes | None] = getattr(pictures, kind)
        return draw(results)

    contents: dict[str, Callable[[], bytes | None]] = {
        "sweep.csv": lambda: jobs.csv().encode(),
        "samples.png": lambda: picture("contact_sheet"),
        "scores.png": lambda: picture("score_plot"),
        "sweep.md": lambda: _page(results, jobs, written).encode(),  # links to the pictures
    }
    for name, make in contents.items():
        path = folder / name
        try:
            remove_leftovers(folder, name, older_than=0)
            if (content := make()) is None:
                path.unlink(missing_ok=True)
            else:
                write_whole(path, content)
                written.append(path)
        except Exception as error:  # a full disk, or a picture of what nobody foresaw
            log.warning("%s: not written: %s", path, error)
    parts = [line for text in results.summary for line in textwrap.wrap(text, width)]
    parts.append(settings_table(results.settings[:_MOST]).terminal(width))
    if (more := len(results.settings) - _MOST) > 0:
        parts.append(f"and {more} more settings")
    return "\n".join([*parts, "", "written", *(f"  {path}" for path in written), ""])


def _page(results: Results, jobs: Table, written: Sequence[Path]) -> str:
    """Returns the jobs, the settings with their means, and the pictures."""
    finished, scores = results.summary
    parts = [f"# Sweep: {finished}", jobs.markdown(), "## Settings", scores]
    parts.append(settings_table(results.settings).markdown())
    parts += [f"![{path.stem}]({path.name})" for path in written if path.suffix == ".png"]
    return "\n\n".join(parts) + "\n"


def jobs_table(results: Results, folder: Path) -> Table:
    """Returns a row per job; their folders are relative to the sweep's."""
    header = ["number", *results.keys, "status", "reason", "score", "last_score", "best_score"]
    header += ["best_iteration", "objective_value", "iterations", "seconds", "folder"]
    rows = []
    for row in results.rows:
        job, settings = row.outcome, [row.settings.get(key) for key in results.keys]
        scores = [None if row.last is None else results.score, row.last, row.best, row.best_at]
        iterations = (read_status(job.folder) or {}).get("iteration")
        cells = [job.number, *settings, job.status, reason(job), *scores, job.value, iterations]
        rows.append([*cells, job.seconds, os.path.relpath(job.folder, folder)])
    return Table(header, rows)


def settings_table(settings: Sequence[Setting]) -> Table:
    """Returns a row per setting, with means over seeds."""
    rows = []
    for one in settings:
        finished = sum(row.outcome.status == "finished" for row in one.rows)
        last, n = mean_of(row.last for row in one.counted), len(one.counted) or None
        rows.append([one.label, f"{finished} of {len(one.rows)}", n, last, one.mean])
    return Table(["setting", "finished", "n", "last", "best"], rows)
