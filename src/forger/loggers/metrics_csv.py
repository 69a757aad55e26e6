"""The table of a run's metrics. Owns `metrics.csv` in the run folder, and nothing else there."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from forger.errors import RunError
from forger.loggers import csv_file
from forger.loggers.csv_file import Table

log = logging.getLogger(__name__)


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
        self._known: set[tuple[int, str]] = set()  # of the iteration that the run goes on after

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
        """Appends one row; values that are not scalars are left out, and those that are there.

        Args:
            metrics: names and numbers, or tensors of one element.
            step: the iteration, 1 after the first.
        """
        scalars = {name: scalar(value) for name, value in metrics.items()}
        kept = {k: v for k, v in scalars.items() if v is not None and (step, k) not in self._known}
        if self._known and not kept:
            return
        row: dict[str, Any] = {"step": step, **kept}
        if not self._columns:
            self._continue()
        if new := [name for name in row if name not in self._columns]:
            self._add_columns(new)
        if not self.path.exists():  # someone moved it away: rows need a header
            csv_file.replace(self.path, [csv_file.line(self._columns)])
        csv_file.append(self.path, csv_file.line(row.get(name) for name in self._columns))

    @rank_zero_only
    def rewind(self, step: int) -> int | None:
        """Drops the rows after an iteration, in one move; every other row stays as it is in bytes.

        A last row that a kill cut off is dropped too.

        Args:
            step: the last iteration whose rows stay.

        Returns:
            The largest iteration that was there before; None where there were no rows.

        Raises:
            RunError: the file is not one of this logger's, or damaged before its last row.
            OSError: it cannot be read or written; all its whole rows are still there.
        """
        table = self._continue()
        steps = [self._step(row, number) for number, row in enumerate(table.rows, start=2)]
        kept = [row for row, at in zip(table.rows, steps, strict=True) if at is None or at <= step]
        if len(kept) < len(table.rows):
            csv_file.replace(self.path, [table.header, *kept])
        last = [row for row, at in zip(table.rows, steps, strict=True) if at == step]
        cells = [dict(zip(table.columns, csv_file.cells(row), strict=True)) for row in last]
        self._known = {(step, name) for row in cells for name, cell in row.items() if cell}
        return max((at for at in steps if at is not None), default=None)

    def _continue(self) -> Table:
        """Reads what an earlier process wrote, and drops the row in which it was killed."""
        table = csv_file.read(self.path, first="step")
        if self.path.exists() and self.path.stat().st_size > table.size:
            log.warning("%s: dropped its last row, which was cut off", self.path)
            os.truncate(self.path, table.size)
        self._columns = table.columns
        return table

    def _step(self, row: bytes, number: int) -> int | None:
        text = row.partition(b",")[0].strip().decode(errors="replace")
        try:
            return int(text) if text else None
        except ValueError:
            raise RunError(
                f"{self.path}: line {number} begins with {text!r}, which is no iteration; "
                "delete the line, or move the file away"
            ) from None

    def _add_columns(self, names: list[str]) -> None:
        """Writes the file anew with more columns, and puts it in place in one move."""
        columns = [*self._columns, *names]
        rows = csv_file.read(self.path, first="step").rows
        empty = b"," * len(names)
        wider = [row.rstrip(b"\r\n") + empty + b"\r\n" for row in rows]
        csv_file.replace(self.path, [csv_file.line(columns), *wider])
        self._columns = columns


def scalar(value: Any) -> int | float | None:
    """Takes the one Python number out of a number, array or tensor; `None` where there is none."""
    size = value.numel() if isinstance(value, torch.Tensor) else getattr(value, "size", None)
    value = value.item() if size == 1 else value
    return value if isinstance(value, (int, float)) else None
