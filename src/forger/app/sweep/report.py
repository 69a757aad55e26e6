"""What a sweep shows as its jobs end and when all have. Owns its files, and the line of one job.

Nothing heavy is imported before there are pictures to draw, and no failure here fails a sweep.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from forger.app.sweep import override_words, rows, written_tables
from forger.app.sweep.outcome import Outcome
from forger.app.sweep.results import Results, collect
from forger.whole_files import remove_leftovers, write_whole

log = logging.getLogger(__name__)

CSV, MARKDOWN, SAMPLES, SCORES = "sweep.csv", "sweep.md", "samples.png", "scores.png"


@dataclass(frozen=True)
class Report:
    """What became of a sweep.

    Attributes:
        folder: of the sweep.
        results: its jobs and settings.
        files: what was written.
    """

    folder: Path
    results: Results
    files: tuple[Path, ...]


def write(
    folder: Path,
    outcomes: Sequence[Outcome],
    *,
    objective: str | None = None,
    minimise: bool = True,
) -> Report:
    """Writes `sweep.csv`, `sweep.md`, `samples.png` and `scores.png`, each whole.

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
    written: list[Path] = []
    problems: list[str] = []

    def markdown() -> bytes:
        pictures = [path.name for path in written if path.suffix == ".png"]
        return written_tables.markdown(results, folder, pictures).encode()

    contents: dict[str, Callable[[], bytes | None]] = {
        CSV: lambda: written_tables.csv_table(results, folder).encode(),
        SAMPLES: lambda: _contact_sheet(results),
        SCORES: lambda: _score_plot(results),
        MARKDOWN: markdown,  # the last: it links to the pictures that there are
    }
    for name, content in contents.items():
        try:
            if _put(folder / name, content()):
                written.append(folder / name)
        except Exception as error:  # jobs that ran for days must not end in a traceback of ours
            problems.append(f"{name}: {error}")
            log.debug("%s", name, exc_info=error)
    if problems:
        log.warning("not written to %s: %s", folder, "; ".join(problems))
    return Report(folder, results, tuple(written))


def line(
    outcome: Outcome,
    done: int,
    total: int,
    *,
    keys: Collection[str] | None = None,
    objective: str | None = None,
    minimise: bool = True,
) -> str:
    """Words the end of one job, without an end of line.

    Args:
        outcome: of the job.
        done: jobs that have ended, this one included.
        total: jobs of the sweep.
        keys: what differs between the jobs, see `override_words.swept`; `None`: show all words.
        objective: name of the score; `None`: the job's FID.
        minimise: whether lower scores are better.
    """
    words = override_words.by_key(outcome.overrides)
    shown = [key for key in words if keys is None or key in keys]
    score = objective or rows.fid_of(outcome)
    row = rows.row(outcome, shown, score, minimise)
    text = f"[{done}/{total}] #{outcome.number} {row.label}".rstrip() + f": {rows.ended(outcome)}"
    if row.last is not None and outcome.status in ("finished", "pruned"):
        at = "" if row.best_at is None else f" (best {row.best:.4g} at {row.best_at})"
        text += f", {score} {row.last:.4g}{at}"
    why = rows.reason(outcome)
    return f"{text}: {why}" if why else text


def _put(path: Path, content: bytes | None) -> bool:
    """Writes a file, or removes it where there is nothing to write."""
    remove_leftovers(path.parent, path.name, older_than=0)
    if content is None:
        path.unlink(missing_ok=True)
        return False
    write_whole(path, content)
    return True


def _contact_sheet(results: Results) -> bytes | None:
    from forger.app.sweep import contact_sheet

    return contact_sheet.draw(results)


def _score_plot(results: Results) -> bytes | None:
    from forger.app.sweep import score_plot

    return score_plot.draw(results)
