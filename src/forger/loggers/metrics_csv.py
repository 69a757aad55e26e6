"""The table of a run's metrics. Owns `metrics.csv` in the run folder, and nothing else there."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only


class MetricsCSV(Logger):
    """Appends each row of metrics to `metrics.csv` at once.

    Lightning's `CSVLogger` deletes the file that it finds and holds rows back until a later flush;
    this one continues after the rows of an earlier process, and a killed run loses none. Floats are
    written so that reading them gives the same bits. A new name later in the run becomes a new
    column, empty in the rows before.

    Args:
        save_dir: the run folder.
    """

    def __init__(self, save_dir: str | os.PathLike[str]) -> None:
        super().__init__()
        self.path = Path(save_dir) / "metrics.csv"
        self._columns: list[str] = []

    @property
    def name(self) -> str:
        """Empty: the run folder is not divided further."""
        return ""

    @property
    def version(self) -> str:
        """Empty: the run folder is not divided further."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.path.parent)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: the run folder holds the config."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Appends one row; values that are not scalars are left out.

        Args:
            metrics: names and numbers, or tensors of one element.
            step: the iteration, 1 after the first.
        """
        scalars = {name: _scalar(value) for name, value in metrics.items()}
        row = {"step": step} | {k: v for k, v in scalars.items() if v is not None}
        if not self._columns:
            self._columns = self._header()
        if new := [name for name in row if name not in self._columns]:
            self._add_columns(new)
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def _header(self) -> list[str]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return next(csv.reader(file), [])

    def _add_columns(self, names: list[str]) -> None:
        """Writes the file anew with more columns, and puts it in place in one move."""
        self._columns = [*self._columns, *names]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            if self.path.exists():
                with self.path.open(newline="") as old:
                    writer.writerows(csv.DictReader(old))
        temporary.replace(self.path)


def _scalar(value: Any) -> int | float | None:
    """Takes the one Python number out of a number, array or tensor; `None` where there is none."""
    size = value.numel() if isinstance(value, torch.Tensor) else getattr(value, "size", None)
    value = value.item() if size == 1 else value
    return value if isinstance(value, (int, float)) else None
