"""A table, written for the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

_ESCAPES = str.maketrans(
    {"|": r"\|", "<": "&lt;", "*": r"\*", "`": r"\`", "\\": r"\\", "\n": " ", "\r": " "}
)


@dataclass(frozen=True)
class Table:
    """Rows of values under a header; `None` is an empty cell."""

    header: Sequence[str]
    rows: Sequence[Sequence[object]]

    def terminal(self, width: int, texts: Collection[int] = (0,)) -> str:
        """Returns plain text in columns.

        Args:
            width: columns of the terminal.
            texts: columns that hold text, by number: on the left, and folded where they are long.
        """
        table = RichTable(box=box.SIMPLE, pad_edge=False)
        for column, name in enumerate(self.header):
            if column in texts:
                table.add_column(Text(name), overflow="fold")
            else:
                table.add_column(Text(name), justify="right", no_wrap=True)
        for row in self.rows:
            table.add_row(*(Text(cell) for cell in map(short, row)))
        file = io.StringIO()
        Console(file=file, width=width, color_system=None, force_terminal=False).print(table)
        return "\n".join(line.rstrip() for line in file.getvalue().rstrip().splitlines())

    def markdown(self) -> str:
        """Returns the table as Markdown, with four digits of each number."""
        head, *body = (
            f"| {' | '.join(short(cell).translate(_ESCAPES) for cell in row)} |"
            for row in (self.header, *self.rows)
        )
        return "\n".join([head, "|" + " --- |" * len(self.header), *body])

    def csv(self) -> str:
        """Returns the table as CSV, with all digits of each number."""
        text = io.StringIO(newline="")
        csv.writer(text).writerows([self.header, *self.rows])
        return text.getvalue()


def short(cell: object) -> str:
    """Returns a cell to read: four digits of a number."""
    if cell is None:
        return ""
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
