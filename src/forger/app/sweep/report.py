"""Writes what a sweep came to: a line as each job ends, and tables and pictures at its end.

No failure here fails a sweep. Nothing heavy is imported before there are pictures to draw.
"""

from __future__ import annotations

import logging
import os
import textwrap
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from forger.app.run.tables import Table
from forger.app.sweep.jobs import Outcome, by_key, value_in
from forger.app.sweep.results import Results, collect, fid_of, read_row
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
        """Returns the table of settings, and the files written.

        Plain text, for a terminal and a log alike: what is long is folded, and nothing is cut off.
        Paths stand on lines of their own, which may be longer than `width`.
        """
        width = max(width, _NARROWEST)
        parts = [_finished(self.results), *textwrap.wrap(_note(self.results), width)]
        parts.append(_settings_table(self.results, _MOST).terminal(width))
        if (more := len(self.results.settings) - _MOST) > 0:
            parts.append(f"and {more} more settings")
        if self.files:
            parts += ["", "written", *(f"  {path}" for path in self.files)]
        return "\n".join(parts) + "\n"


def write(
    folder: Path, outcomes: Sequence[Outcome], objective: str | None = None, minimise: bool = True
) -> Report:
    """Writes `sweep.csv`, `sweep.md`, `samples.png` and `scores.png` into the sweep's folder.

    What has no content is not written, and removed where an earlier report left it. A file that
    cannot be written is a warning. Args as for `collect`.
    """
    results = collect(outcomes, objective, minimise)
    jobs = _jobs_table(results, folder)
    written: list[Path] = []
    problems: list[str] = []

    def picture(kind: str) -> bytes | None:
        from forger.app.sweep import pictures  # imports matplotlib and PIL

        draw: Callable[[Results], bytes | None] = getattr(pictures, kind)
        return draw(results)

    contents: dict[str, Callable[[], bytes | None]] = {
        "sweep.csv": lambda: jobs.csv().encode(),
        "samples.png": lambda: picture("contact_sheet"),
        "scores.png": lambda: picture("score_plot"),
        # the last: it links to the pictures that there are
        "sweep.md": lambda: _page(results, jobs, written).encode(),
    }
    for name, make in contents.items():
        path = folder / name
        try:
            remove_leftovers(folder, name, older_than=0)
            if (content := make()) is None:
                path.unlink(missing_ok=True)
            else:
                write_whole(path, content)
                written.append(path)
        except Exception as error:  # a full disk, or a picture of what nobody foresaw
            problems.append(f"{name} ({error})")
            log.debug("%s", name, exc_info=error)
    if problems:
        log.warning("not written to %s: %s", folder, "; ".join(problems))
    return Report(results, tuple(written))


def line(
    outcome: Outcome,
    count: str,
    keys: Collection[str] | None = None,
    objective: str | None = None,
    minimise: bool = True,
) -> str:
    """Returns the line that tells of the end of one job, `count` of all.

    Args as for `collect`; `keys` are what differs between the jobs, `None` shows all overrides.
    """
    overrides = by_key(outcome.overrides)
    score = objective or fid_of(outcome)
    row = read_row(outcome, [k for k in overrides if keys is None or k in keys], score, minimise)
    text = f"[{count}] #{outcome.number} {row.label}".rstrip() + f": {outcome.status}"
    if outcome.seconds is not None:
        preposition = "in" if outcome.status == "finished" else "after"
        text += f" {preposition} {timedelta(seconds=round(outcome.seconds))}"
    if row.last is not None and outcome.status in ("finished", "pruned"):
        at = "" if row.best_at is None else f" (best {row.best:.4g} at {row.best_at})"
        text += f", {score} {row.last:.4g}{at}"
    why = reason(outcome)
    return f"{text}: {why}" if why else text


def reason(outcome: Outcome) -> str:
    """Returns the first line of why a job did not finish; empty where nothing is known."""
    lines = (outcome.reason or outcome.error or "").strip().splitlines()
    return lines[0].strip() if lines else ""


def _jobs_table(results: Results, folder: Path) -> Table:
    """Returns a row per job; their folders are relative to the sweep's."""
    header = ["number", *results.keys, "status", "reason"]
    header += ["score", "last_score", "best_score", "best_iteration", "objective_value"]
    rows = []
    for row in results.rows:
        job, own = row.outcome, row.overrides
        settings = [value_in(own[key]) if key in own else None for key in results.keys]
        scores = [None if row.last is None else results.score, row.last, row.best, row.best_at]
        cells = [job.number, *settings, job.status, reason(job), *scores, job.value]
        rows.append([*cells, row.iterations, job.seconds, os.path.relpath(job.folder, folder)])
    return Table([*header, "iterations", "seconds", "folder"], rows)


def _settings_table(results: Results, most: int | None = None) -> Table:
    """Returns a row per setting, the best `most` of them, with means over seeds."""
    rows = [
        [
            *(setting.label, f"{setting.finished} of {len(setting.rows)}"),
            *(setting.best and setting.best.n, setting.last, setting.best),
        ]
        for setting in results.settings[:most]
    ]
    return Table(["setting", "finished", "n", "last", "best"], rows)


def _finished(results: Results) -> str:
    finished = sum(row.outcome.status == "finished" for row in results.rows)
    return f"{finished} of {len(results.rows)} jobs finished"


def _note(results: Results) -> str:
    """Says what the scores of the settings are; empty where there are none."""
    if results.score is None:
        return ""
    better = "lower" if results.minimise else "higher"
    return f"{results.score} ({better} is better): mean ± sample standard deviation over n seeds"


def _page(results: Results, jobs: Table, written: Sequence[Path]) -> str:
    """Returns the jobs, the settings with their means, and the pictures."""
    parts = [f"# Sweep: {_finished(results)}", jobs.markdown(), "## Settings", _note(results)]
    parts.append(_settings_table(results).markdown())
    parts += [f"![{path.stem}]({path.name})" for path in written if path.suffix == ".png"]
    return "\n\n".join(filter(None, parts)) + "\n"
