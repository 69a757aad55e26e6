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
from pathlib import Path

from forger.app.run.folder import read_status
from forger.app.run.tables import Table
from forger.app.sweep.folder import Outcome, by_key, differing_keys, read_curve, value_in
from forger.score_names import is_fid
from forger.whole_files import remove_leftovers, write_whole

log = logging.getLogger(__name__)

_MOST = 30  # settings in the terminal; the best ones stay in sight
_NARROWEST = 60  # columns of a table


@dataclass(frozen=True)
class Row:
    """What one job came to."""

    outcome: Outcome
    overrides: dict[str, str]  # those that differ between the jobs, by key
    curve: list[tuple[int, float]]  # finite scores by iteration
    last: float | None  # score, perhaps not finite; without a curve, what the job returned
    best: float | None
    best_at: int | None  # iteration, the first one where several are equal

    @property
    def label(self) -> str:
        """The overrides that differ between the jobs."""
        return " ".join(self.overrides.values())

    @property
    def setting(self) -> str:
        """The same without the seed."""
        own = [override for key, override in self.overrides.items() if key != "seed"]
        return " ".join(own) or "all jobs"


@dataclass(frozen=True)
class Setting:
    """Jobs that differ in their seed alone."""

    label: str
    rows: list[Row]
    finished: int
    last: list[float]  # scores of finished jobs; of pruned ones where none finished
    best: list[float]


@dataclass(frozen=True)
class Results:
    """All that a sweep came to."""

    keys: tuple[str, ...]  # what differs between jobs
    score: str | None  # its name; `None`: no job has one
    better: str  # `lower` or `higher`
    rows: list[Row]  # by number
    settings: list[Setting]  # the best first; without a score as they come in the sweep


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
    score = objective or next(filter(None, map(_fid_of, outcomes)), None)
    rows = [read_row(outcome, keys, score, minimise) for outcome in outcomes]
    by_setting: dict[str, list[Row]] = {}
    for row in rows:
        by_setting.setdefault(row.setting, []).append(row)

    def rank(setting: Setting) -> tuple[int, float]:
        """Finished settings by score, then pruned ones, then those without a score."""
        if not setting.best:
            return 2, 0.0
        mean = statistics.fmean(setting.best)
        return (0 if setting.finished else 1), mean if minimise else -mean

    settings = sorted((_average(*one) for one in by_setting.items()), key=rank)
    shown = score if any(row.last is not None for row in rows) else None
    return Results(keys, shown, "lower" if minimise else "higher", rows, settings)


def _average(label: str, rows: list[Row]) -> Setting:
    """Averages over seeds; a job that ended early would pull the mean, so it counts for nothing."""
    finished = sum(row.outcome.status == "finished" for row in rows)
    status = "finished" if finished else "pruned"
    counted = [(r.last, r.best) for r in rows if r.outcome.status == status]
    scored = [(last, best) for last, best in counted if last is not None and best is not None]
    return Setting(
        label, rows, finished, [last for last, _ in scored], [best for _, best in scored]
    )


def read_row(
    outcome: Outcome, keys: Collection[str] | None, score: str | None, minimise: bool = True
) -> Row:
    """Reads what one job left; `keys` are what differs between the jobs, `None`: shows all."""
    curve = read_curve(outcome.folder / "metrics.csv", score) if score else []
    finite = [(iteration, value) for iteration, value in curve if math.isfinite(value)]
    last = curve[-1][1] if curve else outcome.value
    best, best_at = last if last is not None and math.isfinite(last) else None, None
    if finite:
        best_at, best = (min if minimise else max)(finite, key=lambda point: point[1])
    return Row(outcome, by_key(outcome.overrides, keys), finite, last, best, best_at)


def _fid_of(outcome: Outcome) -> str | None:
    """Returns the column of a job's FID, by whatever features; `None`: it has none."""
    try:
        with (outcome.folder / "metrics.csv").open(newline="", errors="replace") as file:
            return next(filter(is_fid, next(csv.reader(file), [])), None)
    except (OSError, csv.Error):
        return None


def mean_of(values: Sequence[float]) -> str:
    """Writes a mean ± the sample standard deviation, `sqrt(sum (x - mean)^2 / (n - 1))`."""
    if len(values) > 1 and all(map(math.isfinite, values)):
        return f"{statistics.fmean(values):.4g} ± {statistics.stdev(values):.2g}"
    return f"{sum(values) / len(values):.4g}" if values else ""


def reason(outcome: Outcome) -> str:
    """Returns the first line of why a job did not finish; empty where nothing is known."""
    lines = (outcome.reason or outcome.error or "").strip().splitlines()
    return lines[0].strip() if lines else ""


def line(
    outcome: Outcome,
    count: str,
    keys: Collection[str] | None,
    objective: str | None,
    minimise: bool,
) -> str:
    """Returns the line that tells of the end of one job, `count` of all; args as for `collect`."""
    score = objective or _fid_of(outcome)
    row = read_row(outcome, keys, score, minimise)
    text = f"[{count}] #{outcome.number} {row.label}".rstrip() + f": {outcome.status}"
    if outcome.seconds is not None:
        preposition = "in" if outcome.status == "finished" else "after"
        text += f" {preposition} {timedelta(seconds=round(outcome.seconds))}"
    if row.last is not None and outcome.status in ("finished", "pruned"):
        at = "" if row.best_at is None else f" (best {row.best:.4g} at {row.best_at})"
        text += f", {score} {row.last:.4g}{at}"
    why = reason(outcome)
    return f"{text}: {why}" if why else text


def write_report(
    folder: Path,
    outcomes: Sequence[Outcome],
    objective: str | None = None,
    minimise: bool = True,
    width: int = 80,
) -> str:
    """Writes `sweep.csv`, `sweep.md`, `samples.png` and `scores.png` into the sweep's folder.

    What has no content is not written, and removed where an earlier report left it. A file that
    cannot be written is a warning. Args as for `collect`.

    Returns:
        The table of settings and the files written, for a terminal of so many columns.
    """
    results = collect(outcomes, objective, minimise)
    jobs = _jobs_table(results, folder)
    written: list[Path] = []

    def picture(kind: str) -> bytes | None:
        from forger.app.sweep import pictures  # imports matplotlib and PIL

        draw: Callable[[Results], bytes | None] = getattr(pictures, kind)
        return draw(results)

    contents: dict[str, Callable[[], bytes | None]] = {
        "sweep.csv": lambda: jobs.csv().encode(),
        "samples.png": lambda: picture("contact_sheet"),
        "scores.png": lambda: picture("score_plot"),
        # the last: it links to the pictures that there are
        "sweep.md": lambda: _page(results, jobs, written).encode(),
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
    return _for_terminal(results, written, max(width, _NARROWEST))


def _for_terminal(results: Results, written: Sequence[Path], width: int) -> str:
    """Returns plain text; paths stand on lines of their own, which may be longer than `width`."""
    parts = [part for text in _summary(results) for part in textwrap.wrap(text, width)]
    parts.append(_settings_table(results, _MOST).terminal(width))
    if (more := len(results.settings) - _MOST) > 0:
        parts.append(f"and {more} more settings")
    if written:
        parts += ["", "written", *(f"  {path}" for path in written)]
    return "\n".join(parts) + "\n"


def _page(results: Results, jobs: Table, written: Sequence[Path]) -> str:
    """Returns the jobs, the settings with their means, and the pictures."""
    finished, *note = _summary(results)
    parts = [f"# Sweep: {finished}", jobs.markdown(), "## Settings", *note]
    parts.append(_settings_table(results).markdown())
    parts += [f"![{path.stem}]({path.name})" for path in written if path.suffix == ".png"]
    return "\n\n".join(parts) + "\n"


def _summary(results: Results) -> list[str]:
    """Says how many jobs finished, and what the scores of the settings are."""
    finished = sum(setting.finished for setting in results.settings)
    lines = [f"{finished} of {len(results.rows)} jobs finished"]
    if results.score is not None:
        better = f"{results.score} ({results.better} is better)"
        lines.append(f"{better}: mean ± sample standard deviation over n seeds")
    return lines


def _jobs_table(results: Results, folder: Path) -> Table:
    """Returns a row per job; their folders are relative to the sweep's."""
    header = ["number", *results.keys, "status", "reason", "score", "last_score", "best_score"]
    header += ["best_iteration", "objective_value", "iterations", "seconds", "folder"]
    rows = []
    for row in results.rows:
        job, own = row.outcome, row.overrides
        settings = [value_in(own[key]) if key in own else None for key in results.keys]
        scores = [None if row.last is None else results.score, row.last, row.best, row.best_at]
        iterations = (read_status(job.folder) or {}).get("iteration")
        cells = [job.number, *settings, job.status, reason(job), *scores, job.value, iterations]
        rows.append([*cells, job.seconds, os.path.relpath(job.folder, folder)])
    return Table(header, rows)


def _settings_table(results: Results, most: int | None = None) -> Table:
    """Returns a row per setting, the best `most` of them, with means over seeds."""
    rows = []
    for one in results.settings[:most]:
        finished, n = f"{one.finished} of {len(one.rows)}", len(one.best) or None
        rows.append([one.label, finished, n, mean_of(one.last), mean_of(one.best)])
    return Table(["setting", "finished", "n", "last", "best"], rows)
