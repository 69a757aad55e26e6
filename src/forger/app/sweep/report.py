"""Writes what a sweep came to: a line as each job ends, and tables and pictures at its end.

No failure here fails a sweep. Nothing heavy is imported before there are pictures to draw.
"""

from __future__ import annotations

import logging
import os
import textwrap
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from forger.app.run.tables import Table, escaped
from forger.app.sweep.jobs import BAD, Outcome, by_key, value_in
from forger.app.sweep.results import Results, Row, collect, fid_of, read_row
from forger.whole_files import remove_leftovers, write_whole

log = logging.getLogger(__name__)

_NARROWEST = 60  # columns
_MOST = 30  # settings in the terminal; the best ones stay in sight


@dataclass(frozen=True)
class Report:
    """What became of a sweep, and the files that say so."""

    results: Results
    files: tuple[Path, ...]

    def terminal(self, width: int = 80) -> str:
        """Returns the table of settings, the jobs that did not finish, and the files written.

        Plain text, for a terminal and a log alike: what is long is folded, and nothing is cut off.
        Paths stand on lines of their own, which may be longer than `width`.
        """
        width = max(width, _NARROWEST)
        parts = [_settings_text(self.results, width)]
        for row in self.results.rows:
            if row.outcome.status in BAD:
                head = f"#{row.outcome.number} {row.label}".rstrip() + f": {ending(row.outcome)}"
                lines = _folded(head, width, "") + _folded(reason(row.outcome), width, "  ")
                parts.append("\n".join([*lines, f"  {row.outcome.folder}"]))
        if self.files:
            parts.append("\n".join(["written", *(f"  {path}" for path in self.files)]))
        return "\n\n".join(parts) + "\n"


def write(
    folder: Path,
    outcomes: Sequence[Outcome],
    *,
    objective: str | None = None,
    minimise: bool = True,
) -> Report:
    """Writes `sweep.csv`, `sweep.md`, `samples.png` and `scores.png` into the sweep's folder.

    What has no content is not written, and removed where an earlier report left it.

    Args:
        folder: of the sweep.
        outcomes: of its jobs, in any order.
        objective: metric in the jobs' `metrics.csv`; `None`: their FID.
        minimise: whether lower scores are better.

    Returns:
        The report, also where no file could be written: that is a warning.
    """
    results = collect(outcomes, objective, minimise)
    jobs = jobs_table(results, folder)
    written: list[Path] = []
    problems: list[str] = []
    contents: dict[str, Callable[[], bytes | None]] = {
        "sweep.csv": lambda: jobs.csv().encode(),
        "samples.png": lambda: _contact_sheet(results),
        "scores.png": lambda: _score_plot(results),
        # the last: it links to the pictures that there are
        "sweep.md": lambda: _page(results, jobs, folder, written).encode(),
    }
    for name, content in contents.items():
        try:
            if _put(folder / name, content()):
                written.append(folder / name)
        except Exception as error:  # a full disk, or a picture of what nobody foresaw
            problems.append(f"{name} ({error})")
            log.debug("%s", name, exc_info=error)
    if problems:
        log.warning("not written to %s: %s", folder, "; ".join(problems))
    return Report(results, tuple(written))


def line(
    outcome: Outcome,
    count: str,
    *,
    keys: Collection[str] | None = None,
    objective: str | None = None,
    minimise: bool = True,
) -> str:
    """Returns the line that tells of the end of one job.

    Args:
        outcome: of the job.
        count: how many have ended of how many.
        keys: what differs between the jobs; `None`: show all overrides.
        objective: name of the score; `None`: the job's FID.
        minimise: whether lower scores are better.
    """
    overrides = by_key(outcome.overrides)
    score = objective or fid_of(outcome)
    row = read_row(outcome, [k for k in overrides if keys is None or k in keys], score, minimise)
    text = f"[{count}] #{outcome.number} {row.label}".rstrip() + f": {ending(outcome)}"
    if row.last is not None and outcome.status in ("finished", "pruned"):
        at = "" if row.best_at is None else f" (best {row.best:.4g} at {row.best_at})"
        text += f", {score} {row.last:.4g}{at}"
    why = reason(outcome)
    return f"{text}: {why}" if why else text


def reason(outcome: Outcome) -> str:
    """Returns the first line of why a job did not finish; empty where nothing is known."""
    lines = (outcome.reason or outcome.error or "").strip().splitlines()
    return lines[0].strip() if lines else ""


def ending(outcome: Outcome) -> str:
    """Returns how a job ended and after what time, as in `finished in 12 s`."""
    if outcome.seconds is None:
        return outcome.status
    preposition = {"finished": "in", "running": "for"}.get(outcome.status, "after")
    return f"{outcome.status} {preposition} {duration(outcome.seconds)}"


def duration(seconds: float) -> str:
    """Returns a time in its two largest units."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def jobs_table(results: Results, folder: Path) -> Table:
    """Returns a row per job; their folders are relative to the sweep's."""
    scored = results.score is not None
    valued = any(row.outcome.value is not None for row in results.rows)
    header = ["number", *results.keys, "status", "reason"]
    header += ["score", "last_score", "best_score", "best_iteration"] if scored else []
    header += ["objective_value"] if valued else []
    return Table(
        [*header, "iterations", "seconds", "folder"],
        [_cells(row, results, scored, valued, folder) for row in results.rows],
    )


def _cells(row: Row, results: Results, scored: bool, valued: bool, folder: Path) -> list[object]:
    outcome, own = row.outcome, row.overrides
    cells: list[object] = [outcome.number]
    cells += [value_in(own[key]) if key in own else None for key in results.keys]
    cells += [outcome.status, reason(outcome)]
    if scored:
        name = None if row.last is None else results.score
        cells += [name, row.last, row.best, row.best_at]
    cells += [outcome.value] if valued else []
    return [*cells, row.iterations, outcome.seconds, _relative(outcome.folder, folder)]


def settings_table(results: Results, most: int | None = None) -> Table:
    """Returns a row per setting, the best `most` of them, with means over seeds."""
    scored = results.score is not None
    rows: list[list[object]] = []
    for setting in results.settings[:most]:
        n = None if setting.best is None else setting.best.n
        means = [n, setting.last, setting.best] if scored else []
        rows.append([setting.label, f"{setting.finished} of {len(setting.rows)}", *means])
    return Table(["setting", "finished", *(["n", "last", "best"] if scored else [])], rows)


def _finished(results: Results) -> str:
    finished = sum(row.outcome.status == "finished" for row in results.rows)
    return f"{finished} of {len(results.rows)} jobs finished"


def _note(results: Results) -> str:
    """Says what the scores of the settings are; empty where there are none."""
    if results.score is None:
        return ""
    better = "lower" if results.minimise else "higher"
    return f"{results.score} ({better} is better): mean ± sample standard deviation over n seeds"


def _settings_text(results: Results, width: int) -> str:
    lines = [_finished(results), *textwrap.wrap(_note(results), width)]
    lines.append(settings_table(results, _MOST).terminal(width))
    if (more := len(results.settings) - _MOST) > 0:
        lines.append(f"and {more} more settings")
    return "\n".join(lines)


def _page(results: Results, jobs: Table, folder: Path, written: Sequence[Path]) -> str:
    """Returns the jobs, the settings with their means, what failed, and the pictures."""
    parts = [f"# Sweep: {_finished(results)}", jobs.markdown(), "## Settings", _note(results)]
    parts.append(settings_table(results).markdown())
    failures = []
    for row in results.rows:
        if row.outcome.status in BAD:
            head = f"#{row.outcome.number} {row.label}".rstrip() + f": {ending(row.outcome)}"
            text = ": ".join(filter(None, [head, reason(row.outcome)]))
            failures.append(f"- {escaped(text)} (`{_relative(row.outcome.folder, folder)}`)")
    parts += ["## Not finished", "\n".join(failures)] if failures else []
    parts += [f"![{path.stem}]({path.name})" for path in written if path.suffix == ".png"]
    return "\n\n".join(filter(None, parts)) + "\n"


def _relative(path: Path, folder: Path) -> str:
    relative = Path(os.path.relpath(path, folder))
    return str(path) if ".." in relative.parts else relative.as_posix()


def _folded(text: str, width: int, indent: str) -> list[str]:
    """Breaks lines between words alone: what is copied from them stays whole."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _put(path: Path, content: bytes | None) -> bool:
    """Writes a file, or removes it where there is nothing to write."""
    remove_leftovers(path.parent, path.name, older_than=0)
    if content is None:
        path.unlink(missing_ok=True)
        return False
    write_whole(path, content)
    return True


def _contact_sheet(results: Results) -> bytes | None:
    from forger.app.sweep import pictures  # imports matplotlib and PIL

    return pictures.contact_sheet(results)


def _score_plot(results: Results) -> bytes | None:
    from forger.app.sweep import pictures  # imports matplotlib and PIL

    return pictures.score_plot(results)
