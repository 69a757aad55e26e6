"""A sweep's tables as files: CSV for programs, Markdown to read. Owns their columns and escapes."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from forger.app.sweep import override_words
from forger.app.sweep.outcome import BAD
from forger.app.sweep.results import Results
from forger.app.sweep.rows import Row, duration, ended, reason

_ESCAPES = str.maketrans(
    {"|": r"\|", "<": "&lt;", "*": r"\*", "`": r"\`", "\\": r"\\", "\n": " ", "\r": " "}
)


def csv_table(results: Results, folder: Path) -> str:
    """Returns one row per job, with numbers as they were measured.

    Args:
        results: of the sweep.
        folder: of the sweep, to which the jobs' folders are relative.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    scored, valued = results.score is not None, _has_values(results)
    scores = ["score", "last_score", "best_score", "best_iteration"] if scored else []
    values = ["objective_value"] if valued else []
    tail = ["iterations", "seconds", "folder"]
    writer.writerow(["number", *results.keys, "status", "reason", *scores, *values, *tail])
    for row in results.rows:
        outcome = row.outcome
        cells: list[object] = [outcome.number, *_values(row, results.keys)]
        cells += [outcome.status, reason(outcome)]
        if scored:
            name = None if row.last is None else results.score
            cells += [name, row.last, row.best, row.best_at]
        cells += [outcome.value] if valued else []
        cells += [row.iterations, outcome.seconds, relative(outcome.folder, folder)]
        writer.writerow(cells)
    return text.getvalue()


def markdown(results: Results, folder: Path, pictures: Sequence[str]) -> str:
    """Returns a page: the jobs, the settings with their means, what failed, and the pictures.

    Args:
        results: of the sweep.
        folder: of the sweep, to which the jobs' folders are relative.
        pictures: names of files beside the page.
    """
    finished = sum(row.outcome.status == "finished" for row in results.rows)
    parts = [f"# Sweep: {finished} of {len(results.rows)} jobs finished", _jobs(results, folder)]
    parts += ["## Settings", note(results), _settings(results)]
    failed = [row for row in results.rows if row.outcome.status in BAD]
    if failed:
        parts += ["## Not finished", "\n".join(_failure(row, folder) for row in failed)]
    parts += [f"![{Path(name).stem}]({name})" for name in pictures]
    return "\n\n".join(part for part in parts if part) + "\n"


def note(results: Results) -> str:
    """Says what the scores of the settings are; empty where there are none."""
    if results.score is None:
        return ""
    better = "lower" if results.minimise else "higher"
    return f"{results.score} ({better} is better): mean ± sample standard deviation over n seeds"


def relative(path: Path, folder: Path) -> str:
    """Words a path from a folder on, where it lies in it."""
    try:
        words = Path(os.path.relpath(path, folder))
    except ValueError:  # another drive
        return str(path)
    return str(path) if ".." in words.parts else words.as_posix()


def _jobs(results: Results, folder: Path) -> str:
    scored, valued = results.score is not None, _has_values(results)
    header = ["job", *results.keys, "status", "reason"]
    header += [f"{results.score}, last", "best", "at iteration"] if scored else []
    header += ["objective"] if valued else []
    header += ["iterations", "time", "folder"]
    body = []
    for row in results.rows:
        outcome = row.outcome
        cells = [str(outcome.number), *_values(row, results.keys)]
        cells += [outcome.status, reason(outcome)]
        cells += [_number(row.last), _number(row.best), _text(row.best_at)] if scored else []
        cells += [_number(outcome.value)] if valued else []
        time = "" if outcome.seconds is None else duration(outcome.seconds)
        body.append([*cells, _text(row.iterations), time, relative(outcome.folder, folder)])
    return _table(header, body)


def _settings(results: Results) -> str:
    scored = results.score is not None
    header = ["setting", "finished", *(["n", "last", "best"] if scored else [])]
    body = []
    for setting in results.settings:
        cells = [setting.label, f"{setting.finished} of {len(setting.rows)}"]
        if scored:
            n = "" if setting.best is None else str(setting.best.n)
            cells += [n, _text(setting.last), _text(setting.best)]
        body.append(cells)
    return _table(header, body)


def _failure(row: Row, folder: Path) -> str:
    words = f"#{row.outcome.number} {row.label}".rstrip() + f": {ended(row.outcome)}"
    why = reason(row.outcome)
    place = relative(row.outcome.folder, folder)
    return f"- {escaped(words)}{': ' + escaped(why) if why else ''} (`{place}`)"


def escaped(words: str) -> str:
    """Returns words that Markdown shows as they are, also in a cell of a table."""
    return words.translate(_ESCAPES)


def _table(header: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    header = list(header)
    lines = [header, *body]
    text = [f"| {' | '.join(map(escaped, cells))} |" for cells in lines]
    return "\n".join([text[0], "|" + " --- |" * len(header), *text[1:]])


def _values(row: Row, keys: Sequence[str]) -> list[str]:
    return [override_words.value(row.words[key]) if key in row.words else "" for key in keys]


def _has_values(results: Results) -> bool:
    return any(row.outcome.value is not None for row in results.rows)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _text(value: object) -> str:
    return "" if value is None else str(value)
