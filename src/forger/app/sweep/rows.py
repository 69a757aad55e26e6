"""What one job of a sweep came to. Owns what is read from its run folder, and the words for it.

A file that cannot be read leaves its values out, with a warning.
"""

from __future__ import annotations

import csv
import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from forger.app.sweep import override_words
from forger.app.sweep.outcome import Outcome
from forger.metrics.names import is_fid

log = logging.getLogger(__name__)

Curve = tuple[tuple[int, float], ...]
"""Iterations and scores."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One job.

    Attributes:
        outcome: how it ended.
        words: the overrides that differ between the jobs, by key.
        curve: the score over iterations, not always finite.
        last: the score at the end of the curve; without a curve, what the job returned.
        best: the best finite score.
        best_at: the iteration of `best`, the first one where several are equal.
        iterations: how many it made.
    """

    outcome: Outcome
    words: Mapping[str, str]
    curve: Curve = ()
    last: float | None = None
    best: float | None = None
    best_at: int | None = None
    iterations: int | None = None

    @property
    def label(self) -> str:
        """The words that differ between the jobs."""
        return override_words.chosen(self.words, self.words)

    @property
    def setting(self) -> str:
        """The same without the seed."""
        keys = [key for key in self.words if key != override_words.SEED]
        return override_words.chosen(self.words, keys) or "all jobs"


def row(
    outcome: Outcome, keys: Sequence[str], score: str | None = None, minimise: bool = True
) -> Row:
    """Reads what one job left.

    Args:
        outcome: how it ended.
        keys: what differs between the jobs.
        score: its name; `None`: none is read.
        minimise: whether lower scores are better.
    """
    words = override_words.by_key(outcome.overrides)
    kept = {key: words[key] for key in keys if key in words}
    curve = read_curve(outcome.folder / "metrics.csv", score) if score else ()
    last = curve[-1][1] if curve else outcome.value
    finite = [(at, score) for at, score in curve if math.isfinite(score)]
    best_at, best = None, last if last is not None and math.isfinite(last) else None
    if finite:
        best_at, best = (min if minimise else max)(finite, key=lambda point: point[1])
    iterations = _iterations(outcome.folder)
    return Row(
        outcome=outcome,
        words=kept,
        curve=curve,
        last=last,
        best=best,
        best_at=best_at,
        iterations=iterations,
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
            for cells in csv.DictReader(_whole_lines(file)):
                if text := cells.get(name):
                    points.append((int(cells["step"]), float(text)))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        log.warning("%s: damaged, read up to %d scores: %s", path, len(points), error)
    return tuple(points)


def reason(outcome: Outcome) -> str:
    """Returns the first line of why a job did not finish; empty where nothing is known."""
    lines = (outcome.reason or outcome.error or "").strip().splitlines()
    return lines[0].strip() if lines else ""


def ended(outcome: Outcome) -> str:
    """Says how a job ended and after what time, as in `finished in 12 s`."""
    if outcome.seconds is None:
        return outcome.status
    joint = {"finished": "in", "running": "for"}.get(outcome.status, "after")
    return f"{outcome.status} {joint} {duration(outcome.seconds)}"


def duration(seconds: float) -> str:
    """Words a time in its two largest units."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def _whole_lines(lines: Iterable[str]) -> Iterator[str]:
    return (line for line in lines if line.endswith("\n"))


def _iterations(folder: Path) -> int | None:
    path = folder / "status.json"
    try:
        iteration = json.loads(path.read_text()).get("iteration")
        return None if iteration is None else int(iteration)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.warning("%s: damaged: %s", path, error)
        return None
