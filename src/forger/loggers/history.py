"""What a run folder holds of what was logged: rows of metrics and sample grids.

Owns reading it for trackers that lack some of it; writing it is for `MetricsCSV` and callbacks.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

_GRID = re.compile(r"(\d+)_(\w+)\.png")


@dataclass(frozen=True)
class Earlier:
    """What a run that goes on has logged before.

    Attributes:
        rows: iterations and metrics up to the iteration that it goes on after, in order.
        pictures: iterations, names and PNG files of the same time.
        at: that iteration.
        last: the last iteration that had a row, though it may have to be done again.
        tracked: whether the run was in the tracker then.
    """

    rows: tuple[tuple[int, dict[str, float]], ...] = ()
    pictures: tuple[tuple[int, str, Path], ...] = ()
    at: int = 0
    last: int = 0
    tracked: bool = False

    @property
    def newest(self) -> set[tuple[int, str]]:
        """What was logged at that very iteration, to which the end of training may have to add."""
        rows = {(step, name) for step, row in self.rows for name in row if step == self.at}
        return rows | {(step, name) for step, name, _ in self.pictures if step == self.at}


def rows_of(folder: Path) -> tuple[tuple[int, dict[str, float]], ...]:
    """Returns the rows of `metrics.csv` that have an iteration, in order.

    Args:
        folder: of the run; the file may be missing, but not cut off.
    """
    path = folder / "metrics.csv"
    if not path.is_file():
        return ()
    with path.open(newline="") as file:
        found = [(row.pop("step"), row) for row in csv.DictReader(file)]
    return tuple(
        (int(step), {name: float(value) for name, value in row.items() if value})
        for step, row in found
        if step
    )


def last_values(folder: Path) -> dict[str, float]:
    """Returns the last value of each metric of a run."""
    return {name: value for _, row in rows_of(folder) for name, value in row.items()}


def pictures_of(folder: Path, up_to: int | None = None) -> tuple[tuple[int, str, Path], ...]:
    """Returns the sample grids up to an iteration, in order, under the names that trackers know."""
    found = []
    for path in sorted((folder / "samples").glob("*.png")):
        match = _GRID.fullmatch(path.name)
        if match and (up_to is None or int(match[1]) <= up_to):
            found.append((int(match[1]), f"samples/{match[2]}", path))
    return tuple(found)
