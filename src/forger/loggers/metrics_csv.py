"""The table of a run's metrics, `metrics.csv` in the run folder."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from forger.errors import RunError
from forger.whole_files import write_whole

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
        """Appends one row of the iteration `step`, without values that are no scalars.

        Raises:
            RunError: the file that is there is not one of this logger's.
            OSError: it cannot be written; nothing of the row is there.
        """
        scalars = {name: scalar(value) for name, value in metrics.items()}
        new = {k: v for k, v in scalars.items() if v is not None and (step, k) not in self._logged}
        if self._logged and not new:
            return
        row: dict[str, Any] = {"step": step, **new}
        if not self._columns:
            self._continue()
        if added := [name for name in row if name not in self._columns]:
            self._add_columns(added)
        _append(self.path, _encode(row.get(name) for name in self._columns))

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Drops the rows after an iteration, in one move; every other row stays as it is in bytes.

        Raises:
            RunError: the file is not one of this logger's, or damaged before its last row.
            OSError: it cannot be read or written; all its whole rows are still there.
        """
        header, *rows = self._continue() or [_Line(b"", [])]
        kept = [row for row in rows if row.step is None or row.step <= step]
        if len(kept) < len(rows):
            write_whole(self.path, b"".join(line.content for line in (header, *kept)))
        for row in kept:
            if row.step == step:
                cells = zip(header.cells, row.cells, strict=True)
                self._logged |= {(step, name) for name, cell in cells if cell}

    def _continue(self) -> list[_Line]:
        """Reads what an earlier process wrote, and drops the row in which it was killed."""
        lines = _read(self.path)
        size = sum(len(line.content) for line in lines)
        if self.path.exists() and self.path.stat().st_size > size:
            log.warning("%s: dropped its last row, which was cut off", self.path)
            os.truncate(self.path, size)
        self._columns = lines[0].cells if lines else []
        return lines

    def _add_columns(self, names: list[str]) -> None:
        columns, empty = [*self._columns, *names], b"," * len(names)
        rows = [line.content.rstrip(b"\r\n") + empty + b"\r\n" for line in _read(self.path)[1:]]
        write_whole(self.path, b"".join([_encode(columns), *rows]))
        self._columns = columns


def read_rows(folder: Path) -> list[tuple[int, dict[str, float]]]:
    """Returns iterations and metrics of a run's rows, in order; none where there is no file."""
    header, *rows = _read(folder / "metrics.csv") or [_Line(b"", [])]
    pairs = [(row.step, zip(header.cells[1:], row.cells[1:], strict=True)) for row in rows]
    return [(step, {k: float(v) for k, v in row if v}) for step, row in pairs if step is not None]


def last_values(folder: Path) -> dict[str, float]:
    """Returns the last value of each metric of a run."""
    return {name: value for _, row in read_rows(folder) for name, value in row.items()}


def scalar(value: Any) -> int | float | None:
    """Returns the one Python number in a number, array or tensor; `None` where there is none."""
    size = value.numel() if isinstance(value, torch.Tensor) else getattr(value, "size", None)
    value = value.item() if size == 1 else value
    return value if isinstance(value, (int, float)) else None


class _Line(NamedTuple):
    content: bytes  # with its end of line
    cells: list[str]

    @property
    def step(self) -> int | None:
        return int(self.cells[0]) if self.cells[0] else None


def _read(path: Path) -> list[_Line]:
    """Reads header and rows of the file, which may be missing, empty, or cut off at its end."""
    contents = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    if contents and not contents[-1].endswith(b"\n"):
        del contents[-1]
    while contents and b"\0" in contents[-1]:  # a power cut can leave a length without contents
        del contents[-1]
    lines = [_Line(content, _decode(content)) for content in contents]
    for number, (_, cells) in enumerate(lines, start=1):
        columns = lines[0].cells
        if number == 1 and (cells[0] != "step" or len(set(cells)) < len(cells)):
            raise RunError(f"{path}: has no header that begins with 'step'; move the file away")
        if number > 1 and (len(cells) != len(columns) or not (cells[0] or "0").isdecimal()):
            raise RunError(
                f"{path}: line {number} is no iteration with {len(columns) - 1} values; delete the"
                " line, or move the file away"
            )
    return lines


def _append(path: Path, row: bytes) -> None:
    """Adds a row, or none of it where it cannot be written."""
    size = path.stat().st_size
    try:
        with path.open("ab") as file:
            file.write(row)
    except OSError:
        with suppress(OSError):  # else the torn row is dropped when the file is continued
            os.truncate(path, size)
        raise


def _encode(row: Iterable[Any]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(row)
    return text.getvalue().encode()


def _decode(line: bytes) -> list[str]:
    try:
        return next(csv.reader([line.decode(errors="replace")]), [""])
    except csv.Error:  # no text
        return [""]
