"""The pages of a sweep and of runs side by side."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from forger.app.config.command import Command
from forger.app.config.messages import near, setting
from forger.app.report.charts import Chart, Points, draw
from forger.app.report.files import Picture, leads_out, picture
from forger.app.report.one_run import GRIDS, OF_GRIDS, RunRecord
from forger.app.report.page import NAME, Page, Shown
from forger.app.run.tables import (
    Table,
    comparability,
    describe_protocol,
    differing_settings,
    short,
    shown_scores,
)
from forger.app.sweep.folder import Job, Outcome, SweepFolder, label
from forger.app.sweep.report import Results, Row, collect, jobs_table, settings_table
from forger.errors import UserError
from forger.secrets import masked

_CURVES = (
    *("train/loss_g", "train/loss_d", "train/d_real", "train/d_fake"),
    *("train/accuracy", "train/grad_norm_g", "train/grad_norm_d"),
)
_POINTS = 160  # of a curve, where there are many
_LARGEST = 160_000  # bytes of one job's samples
_MOST_JOBS = 100  # whose samples and curves are shown

Curves = Mapping[str, Points]


def page_of_runs(folders: Sequence[Path], command: Command) -> Page:
    """Returns a page of runs side by side."""
    named = enumerate(folders, start=1)
    runs = {f"{number} {folder.resolve().name}": RunRecord(folder) for number, folder in named}
    page = Page(f"{len(runs)} runs side by side")
    page.notes += [f"{name}: {text}" for name, run in runs.items() for text in run.problems]
    page.add("overview", _overview, runs)
    page.add("overview", _scores, runs)
    page.add("overview", _last_scores, runs)
    for name, run in runs.items():
        page.add("films", run.film, name, max(3, GRIDS // len(runs)), OF_GRIDS // len(runs))
        page.add("details", _protocols, name, run)
    page.add("charts", _overlaid, {name: run.curves for name, run in runs.items()})
    values = (setting("run", near(folder)).partition("=")[2] for folder in folders)
    page.commands.append(("To score them", command.typed("evaluate", f"run=[{','.join(values)}]")))
    return page


def _overview(runs: Mapping[str, RunRecord]) -> Iterator[Shown]:
    """Yields what the runs came to, and how they differ."""
    ends = [
        [name, run.config.get("seed"), run.status.get("status"), run.iteration, run.time]
        for name, run in runs.items()
    ]
    header = ["run", "seed", "status", "iterations", "time"]
    yield Shown("Runs", Table(header, ends), keyed=True)
    configs, choices = ([getattr(r, what) for r in runs.values()] for what in ("config", "choices"))
    differ = differing_settings(configs, choices)
    if differ[0]:
        rows = [[key, *(own[key] for own in differ)] for key in differ[0]]
        yield Shown("Settings that differ", Table(["setting", *runs], rows))


def _scores(runs: Mapping[str, RunRecord]) -> Iterator[Shown]:
    """Yields the scores by evaluate.py with those of real images."""
    records = [run.score_records().get("", {}) for run in runs.values()]
    names = shown_scores(name for record in records for name in record.get("scores", {}))
    if names:
        rows = [[name, *(_with_floor(record, name) for record in records)] for name in names]
        alike = comparability([record for record in records if record]).partition(";")[0]
        note = f"in brackets: of real images; {alike}"
        yield Shown("Scores", Table(["score", *runs], rows), note)


def _last_scores(runs: Mapping[str, RunRecord]) -> Iterator[Shown]:
    """Yields the last scores of training."""
    last = [{name: points[-1][1] for name, points in run.curves.items()} for run in runs.values()]
    if names := _score_names(run.curves for run in runs.values()):
        rows = [[name, *(own.get(f"val/{name}") for own in last)] for name in names]
        yield Shown("Last scores while training", Table(["score", *runs], rows))


def _with_floor(record: Mapping[str, Any], name: str) -> str:
    value, floor = (short(record.get(part, {}).get(name)) for part in ("scores", "floor"))
    return f"{value} ({floor})" if floor else value


def _score_names(runs: Iterable[Curves]) -> list[str]:
    columns = (column for curves in runs for column in curves if column.startswith("val/"))
    return shown_scores(column.removeprefix("val/") for column in columns)


def _protocols(name: str, run: RunRecord) -> Iterator[tuple[str, str]]:
    for record in run.score_records().values():
        yield f"Protocol of the scores of {name}", describe_protocol(record["protocol"])


def _overlaid(runs: Mapping[str, Curves], first: Sequence[str] = ()) -> Iterator[Chart]:
    """Yields a chart for each metric, with a curve for each run."""
    scores = [f"val/{name}" for name in _score_names(runs.values())]
    for column in dict.fromkeys([*first, *_CURVES, *scores]):
        curves = {name: run.get(column, []) for name, run in runs.items()}
        chart = draw(column.removeprefix("val/"), curves, _POINTS)
        if chart is not None:
            yield chart


def page_of_sweep(folder: Path, command: Command) -> Page:
    """Returns the page of a sweep.

    Raises:
        UserError: a link in its records leads out of it.
    """
    sweep = SweepFolder(folder)
    outcomes, left_out = _outcomes(sweep)
    asked = sweep.read()
    objective = asked["objective"] if isinstance(asked.get("objective"), str) else None
    results = collect(outcomes, objective, asked.get("minimise") is not False)
    rows = [row for one in results.settings for row in one.rows]  # the best first
    page = Page(folder.resolve().name, facts=[("jobs", results.summary[0])])
    page.notes += [f"job #{number}: left out, since it links elsewhere" for number in left_out]
    page.add("overview", _tables, replace(results, rows=rows), folder)
    page.add("samples", _samples, results, rows[:_MOST_JOBS])
    curves = {_name(row): RunRecord(row.outcome.folder).curves for row in rows[:_MOST_JOBS]}
    page.add("charts", _overlaid, curves, [results.score or ""])
    words = asked.get("words")
    typed = masked(map(str, words)) if isinstance(words, list) else []
    page.commands += [
        ("To repeat it", command.typed("train", "-m", *typed)),
        ("To go on with it", command.typed("train", setting("sweep.resume", near(folder)))),
    ]
    return page


def _outcomes(sweep: SweepFolder) -> tuple[list[Outcome], list[int]]:
    """Returns what became of the jobs, and the numbers of those whose files lie elsewhere."""
    for path in (sweep.path / "sweep.json", *sorted(sweep.jobs_folder.glob("*.json"))):
        if leads_out(sweep.path, path):
            raise UserError(f"run={sweep.path}: {path} is a link to another place")
    known, listed = sweep.outcomes(), sweep.read().get("jobs") or ()
    for job in listed:
        number, overrides = int(job["number"]), tuple(map(str, job["overrides"]))
        if number not in known:
            known[number] = sweep.outcome(Job(number=number, overrides=overrides))
    found, left_out = [], []
    for number, outcome in sorted(known.items()):
        files = (outcome.folder / name for name in ("status.json", "metrics.csv", "config.yaml"))
        if any(leads_out(sweep.path, file) for file in files):
            left_out.append(number)
        else:
            found.append(replace(outcome, overrides=tuple(masked(outcome.overrides))))
    return found, left_out


def _tables(results: Results, folder: Path) -> Iterator[Shown]:
    """Yields the jobs, without columns in which nothing stands, and the means over seeds."""
    table = jobs_table(results, folder)
    kept = [
        place
        for place, name in enumerate(table.header)
        if name not in ("score", "folder")
        and any(row[place] not in (None, "") for row in table.rows)
    ]
    rows = [[row[place] for place in kept] for row in table.rows]
    links = [
        f"{quote(os.path.relpath(row.outcome.folder, folder))}/{NAME}"
        if (row.outcome.folder / NAME).is_file()
        else None
        for row in results.rows
    ]
    header = [table.header[place] for place in kept]
    yield Shown("Jobs, the best setting first", Table(header, rows), keyed=True, links=links)
    yield Shown("Settings, means over seeds", settings_table(results.settings), results.summary[1])


def _samples(results: Results, rows: Sequence[Row]) -> Iterator[Picture]:
    for row in rows:
        score = "" if row.last is None else f" {results.score} {row.last:.4g}"
        most = min(_LARGEST, OF_GRIDS // len(rows))
        found = picture(row.outcome.folder, "samples/last.png", most, f"{_name(row)}{score}")
        if found is not None:
            yield found


def _name(row: Row) -> str:
    return f"#{row.outcome.number} {label(row.settings)}"
