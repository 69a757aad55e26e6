"""What a sweep came to: its jobs, and its settings with the seeds folded into a mean.

Owns the folding and the order, not what is read of a job nor how anything is shown.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from forger.app.sweep import override_words
from forger.app.sweep.outcome import Outcome
from forger.app.sweep.rows import Row, fid_of, row


@dataclass(frozen=True)
class Mean:
    """Mean and sample standard deviation, `sqrt(sum (x - mean)^2 / (n - 1))`.

    Attributes:
        mean: not finite where a value is not.
        deviation: `None` of one value, and where the mean is not finite.
        n: values.
    """

    mean: float
    deviation: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        """Folds one value or more."""
        if not all(map(math.isfinite, values)):
            return cls(sum(values), None, len(values))
        deviation = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), deviation, len(values))

    def __str__(self) -> str:
        spread = "" if self.deviation is None else f" ± {self.deviation:.2g}"
        return f"{self.mean:.4g}{spread}"


@dataclass(frozen=True)
class Setting:
    """Jobs that differ in their seed alone.

    Attributes:
        label: the words that differ from other settings.
        rows: the jobs, by number.
        last: of the last scores of finished jobs; of pruned ones where none finished.
        best: of their best scores.
    """

    label: str
    rows: tuple[Row, ...]
    last: Mean | None
    best: Mean | None

    @property
    def finished(self) -> int:
        """How many jobs finished."""
        return sum(row.outcome.status == "finished" for row in self.rows)


def brief(setting: Setting, keys: Sequence[str]) -> str:
    """Words a setting for a picture; `keys` are all that differ between the jobs."""
    words = setting.rows[0].words
    kept = {key: word for key, word in words.items() if key != override_words.SEED}
    return override_words.brief(kept, keys) or setting.label


@dataclass(frozen=True)
class Results:
    """All that a sweep came to.

    Attributes:
        keys: what differs between jobs.
        score: name of the score; `None`: no job has one.
        minimise: whether lower scores are better.
        rows: the jobs, by number.
        settings: the best first; without a score as they come in the sweep.
    """

    keys: tuple[str, ...]
    score: str | None
    minimise: bool
    rows: tuple[Row, ...]
    settings: tuple[Setting, ...]


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
    keys = override_words.swept(outcome.overrides for outcome in outcomes)
    score = objective or next(filter(None, map(fid_of, outcomes)), None)
    rows = tuple(row(outcome, keys, score, minimise) for outcome in outcomes)
    named = any(row.last is not None for row in rows)
    return Results(keys, score if named else None, minimise, rows, _settings(rows, minimise))


def _settings(rows: Sequence[Row], minimise: bool) -> tuple[Setting, ...]:
    groups: dict[str, list[Row]] = {}
    for one in rows:
        groups.setdefault(one.setting, []).append(one)
    settings = [_setting(label, members) for label, members in groups.items()]
    return tuple(sorted(settings, key=_rank(minimise)))


def _setting(label: str, rows: Sequence[Row]) -> Setting:
    """Folds the seeds; a job that ended early would pull the mean, so it counts for nothing."""
    scored = [one for one in rows if one.best is not None]
    finished = [one for one in scored if one.outcome.status == "finished"]
    counted = finished or [one for one in scored if one.outcome.status == "pruned"]
    last = [one.last for one in counted if one.last is not None]
    best = [one.best for one in counted if one.best is not None]
    means = (Mean.of(last), Mean.of(best)) if counted else (None, None)
    return Setting(label, tuple(rows), *means)


def _rank(minimise: bool) -> Callable[[Setting], tuple[int, float]]:
    """Orders settings: finished ones by score, then pruned ones, then those without a score."""

    def rank(setting: Setting) -> tuple[int, float]:
        if setting.best is None:
            return (2, 0.0)
        score = setting.best.mean if minimise else -setting.best.mean
        return (0 if setting.finished else 1, score)

    return rank
