"""A CSV file that grows by rows and survives kills and full disks. Owns its bytes, not its meaning.

A row that was cut off is the only damage that a kill can do; it has no end of line.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forger.errors import RunError
from forger.whole_files import whole_file


@dataclass
class Table:
    """The contents of a file.

    Attributes:
        columns: names in the header; empty where there is no header.
        header: the header as it is in the file, with its end of line.
        rows: the rows in the same way; a last one that was cut off is left out.
    """

    columns: list[str] = field(default_factory=list)
    header: bytes = b""
    rows: list[bytes] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of the header and the rows."""
        return len(self.header) + sum(map(len, self.rows))


def read(path: Path, first: str) -> Table:
    """Reads a file, which may be missing, empty or cut off.

    Args:
        path: of the file.
        first: name of the column that must come first.

    Raises:
        RunError: the file is another one, or damaged before its last row.
        OSError: it cannot be read.
    """
    if not path.exists():
        return Table()
    lines = path.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        del lines[-1]
    # A power cut can leave the length of a row without its contents.
    while lines and b"\0" in lines[-1]:
        del lines[-1]
    if not lines:
        return Table()
    columns = cells(lines[0])
    if columns[0] != first or len(set(columns)) < len(columns):
        raise RunError(f"{path}: has no header that begins with {first!r}; move the file away")
    for number, line in enumerate(lines[1:], start=2):
        if (count := len(cells(line))) != len(columns):
            raise RunError(
                f"{path}: line {number} has {count} values for {len(columns)} columns; "
                "delete the line, or move the file away"
            )
    return Table(columns, lines[0], lines[1:])


def append(path: Path, content: bytes) -> None:
    """Adds a row, or none of it where it cannot be written.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("ab", buffering=0) as file:  # unbuffered: closing must write no more
        size = file.tell()
        try:
            left = memoryview(content)
            while left:
                left = left[file.write(left) :]
        except OSError:
            with suppress(OSError):  # then the torn row is dropped when the file is continued
                os.ftruncate(file.fileno(), size)
            raise


def replace(path: Path, lines: Iterable[bytes]) -> None:
    """Writes the file anew in one move.

    Raises:
        OSError: it cannot be written; the old one is still there.
    """
    with whole_file(path) as file:
        file.writelines(lines)


def line(row: Iterable[Any]) -> bytes:
    """Encodes one row, with its end of line."""
    text = io.StringIO(newline="")
    csv.writer(text).writerow(row)
    return text.getvalue().encode()


def cells(line: bytes) -> list[str]:
    """Decodes one row."""
    try:
        return next(csv.reader([line.decode(errors="replace")]), [""])
    except csv.Error:  # no text
        return [""]
