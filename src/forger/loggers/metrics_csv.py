"""The table of a run's metrics, `metrics.csv` in the run folder."""

from __future__ import annotations

import csv
import io
import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from forger.errors import RunError
from forger.whole_files import write_whole

log = logging.getLogger(__name__)


class MetricsCSV(Logger):
    """Appends each row of metrics to `metrics.csv` at once.

    Lightning's `CSVLogger` deletes the file that it finds and holds rows back until a later flush;
    this one continues after the rows of an earlier process, and a killed run loses none. Reading
    the floats gives the same bits. A new name becomes a new column, empty in the rows before.
    """

    name = version = ""  # for Lightning: the run folder is not divided further

    def __init__(self, save_dir: str | os.PathLike[str]) -> None:
        super().__init__()
        self.path = Path(save_dir) / "metrics.csv"
        self._columns: list[str] = []
        self._logged: set[tuple[int, str]] = set()  # at the iteration that the run resumes after

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.path.parent)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: the run folder holds the config."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Appends the scalars of one iteration as a row; part of one is dropped when a run goes on.

        Raises:
            RunError: the file that is there is not one of this logger's.
        """
        scalars = {name: _scalar(value) for name, value in metrics.items()}
        new = {k: v for k, v in scalars.items() if v is not None and (step, k) not in self._logged}
        if self._logged and not new:
            return
        row: dict[str, Any] = {"step": step, **new}
        if not self._columns:
            self._continue()
        if added := [name for name in row if name not in self._columns]:
            columns, rows = [*self._columns, *added], _read(self.path)[0][1:]
            empty = [""] * len(added)
            write_whole(self.path, _encode([columns, *([*cells, *empty] for cells in rows)]))
            self._columns = columns
        with self.path.open("ab") as file:
            file.write(_encode([[row.get(name) for name in self._columns]]))

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Drops the rows after an iteration, in one move; every other row stays as it is in bytes.

        Raises:
            RunError: the file is not one of this logger's, or damaged before its last row.
        """
        header, *rows = self._continue() or [[]]
        kept = [cells for cells in rows if not cells[0] or int(cells[0]) <= step]
        if len(kept) < len(rows):
            write_whole(self.path, _encode([header, *kept]))
        for cells in kept:
            named = zip(header, cells, strict=True)
            self._logged |= {(step, name) for name, cell in named if cell and cells[0] == str(step)}

    def _continue(self) -> list[list[str]]:
        """Reads what an earlier process wrote, and drops the row in which it was killed."""
        rows, size = _read(self.path)
        if self.path.exists() and self.path.stat().st_size > size:
            log.warning("%s: dropped its last row, which was cut off", self.path)
            os.truncate(self.path, size)
        self._columns = rows[0] if rows else []
        return rows


def read_rows(folder: Path) -> list[tuple[int, dict[str, float]]]:
    """Returns iterations and metrics of a run's rows, in order; none where there is no file."""
    header, *rows = _read(folder / "metrics.csv")[0] or [[]]
    named = [dict(zip(header, cells, strict=True)) for cells in rows if cells[0]]
    return [(int(row.pop("step")), {k: float(v) for k, v in row.items() if v}) for row in named]


def last_values(folder: Path) -> dict[str, float]:
    """Returns the last value of each metric of a run."""
    return {name: value for _, row in read_rows(folder) for name, value in row.items()}


def _scalar(value: Any) -> int | float | None:
    """Returns the one Python number in a number, array or tensor; `None` where there is none."""
    size = value.numel() if isinstance(value, torch.Tensor) else getattr(value, "size", None)
    value = value.item() if size == 1 else value
    return value if isinstance(value, (int, float)) else None


def _read(path: Path) -> tuple[list[list[str]], int]:
    """Reads header and rows, and how many bytes they take: the end may have been cut off."""
    content = path.read_bytes() if path.exists() else b""
    content = re.sub(rb"\0[\0\r\n]*\Z", b"", content)  # a power cut can leave a length only
    content = content[: content.rfind(b"\n") + 1]
    try:
        text = io.StringIO(content.decode(errors="replace"), newline="")
        header, *rows = list(csv.reader(text)) or [["step"]]
    except csv.Error:  # no text
        header, rows = [], []
    if header[:1] != ["step"] or len(set(header)) < len(header):
        raise RunError(f"{path}: has no header that begins with 'step'; move the file away")
    for number, cells in enumerate(rows, start=2):
        if len(cells) != len(header) or not (cells[0] or "0").isdecimal():
            raise RunError(
                f"{path}: line {number} is no iteration with {len(header) - 1} values; delete the"
                " line, or move the file away"
            )
    return ([header, *rows] if content else []), len(content)


def _encode(rows: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
