"""What a sweep prints at its end. Owns the words and their layout, not the numbers."""

from __future__ import annotations

import io
import textwrap

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from forger.app.sweep.outcome import BAD
from forger.app.sweep.report import Report
from forger.app.sweep.results import Results, Setting
from forger.app.sweep.rows import Row, ended, reason
from forger.app.sweep.written_tables import note

_NARROWEST = 60  # columns
_MOST = 30  # settings; the best ones stay in sight


def render(report: Report, width: int = 80) -> str:
    """Returns the table of settings, the jobs that did not finish, and the files written.

    Plain text, for a terminal and a log alike: long overrides are folded, and nothing is cut off.
    Paths stand on lines of their own, which may be longer than `width`.

    Args:
        report: of the sweep.
        width: columns of the terminal.
    """
    width = max(width, _NARROWEST)
    parts = [_settings(report.results, width)]
    for row in report.results.rows:
        if row.outcome.status in BAD:
            parts.append(_failure(row, width))
    if report.files:
        parts.append("\n".join(["written", *(f"  {path}" for path in report.files)]))
    return "\n\n".join(parts) + "\n"


def _settings(results: Results, width: int) -> str:
    scored = results.score is not None
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("setting", overflow="fold")
    table.add_column("finished", justify="right", no_wrap=True)
    for name in ("n", "last", "best") if scored else ():
        table.add_column(name, justify="right", no_wrap=True)
    for setting in results.settings[:_MOST]:
        table.add_row(*(Text(cell) for cell in _cells(setting, scored)))
    finished = sum(setting.finished for setting in results.settings)
    lines = [
        f"{finished} of {len(results.rows)} jobs finished",
        *textwrap.wrap(note(results), width),
    ]
    if (more := len(results.settings) - _MOST) > 0:
        table.caption = Text(f"and {more} more settings")
        table.caption_justify = "left"
    return "\n".join([*lines, _plain(table, width)])


def _cells(setting: Setting, scored: bool) -> list[str]:
    cells = [setting.label, f"{setting.finished}/{len(setting.rows)}"]
    if not scored:
        return cells
    if setting.best is None:
        return [*cells, "", *(["-"] * 2)]
    return [*cells, str(setting.best.n), str(setting.last), str(setting.best)]


def _failure(row: Row, width: int) -> str:
    head = f"#{row.outcome.number} {row.label}".rstrip() + f": {ended(row.outcome)}"
    lines = _folded(head, width, "", "  ")
    lines += _folded(reason(row.outcome), width, "  ", "  ")
    return "\n".join([*lines, f"  {row.outcome.folder}"])


def _folded(words: str, width: int, first: str, rest: str) -> list[str]:
    """Breaks lines between words alone: what is copied from them stays whole."""
    return textwrap.wrap(
        words,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _plain(table: Table, width: int) -> str:
    file = io.StringIO()
    Console(file=file, width=width, color_system=None, force_terminal=False).print(table)
    return "\n".join(line.rstrip() for line in file.getvalue().rstrip().splitlines())
