"""Wraps the lines of a log at the width of the terminal, between words."""

from __future__ import annotations

import logging
import re
import shutil
import textwrap

_GAP = re.compile(r" {2,}(?=\S)")  # between the columns of a table
_COMMAND = re.compile(r"\bpython \S+\.py |\bforger (train|evaluate|generate) ")


class Wrapped(logging.Formatter):
    """Formats a record as usual; what is too long goes on below the text, not below the time."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the lines of a record."""
        text = super().format(record)
        head, found, _ = text.partition(record.message)
        return wrapped(text, len(head) if found and "\n" not in head else 0)


def wrapped(text: str, indent: int = 0) -> str:
    """Breaks lines that are wider than the terminal, or than 80 columns where there is none.

    A line of several columns, at least two spaces apart, goes on below its last one, others two
    spaces further in. Commands stay whole, so that they can be copied.

    Args:
        text: one line or several.
        indent: how far the first line's text stands behind something else, such as the time.
    """
    width = shutil.get_terminal_size((80, 24)).columns
    first, *others = text.split("\n")
    return "\n".join([_wrapped(first, width, indent), *(_wrapped(o, width, 0) for o in others)])


def _wrapped(line: str, width: int, indent: int) -> str:
    if len(line) <= width or _COMMAND.search(line):
        return line
    gaps = [gap.end() for gap in _GAP.finditer(line, indent) if gap.end() <= width * 3 // 4]
    begin = max([indent, *gaps])
    return textwrap.fill(
        line[begin:],
        width,
        initial_indent=line[:begin],
        subsequent_indent=" " * (begin if gaps else begin + 2),
        break_long_words=False,
        break_on_hyphens=False,
    )
