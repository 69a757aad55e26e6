"""The page of one run, from the files in its folder."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from forger.app.config.command import Command
from forger.app.config.messages import AGAINST_DIVERGENCE, near, setting
from forger.app.report.charts import Points, charts_of, read_curves
from forger.app.report.files import Picture, evenly, grids, picture, read, read_mapping, read_yaml
from forger.app.report.page import Film, Page, Shown
from forger.app.run.folder import read_status
from forger.app.run.tables import Table, describe_protocol, score_table, shown_scores
from forger.checkpoints import FOLDER, LAST, PREVIOUS
from forger.errors import DivergedError
from forger.score_names import better
from forger.secrets import masked, without_secrets

GRIDS, OF_GRIDS, OF_FIGURES = 24, 2_300_000, 1_000_000  # frames; bytes of all pictures
_MOST_FIGURES = 20
_CHOICES = (  # groups whose choices head a page
    *("experiment", "task", "model", "condition", "augment", "loss", "data"),
    *("optimizer", "schedule", "trainer"),
)


@dataclass
class RunRecord:
    """What a run's folder tells; whatever it lacks, or holds damaged, is empty."""

    folder: Path
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        known = read_mapping(self.folder, "status.json")
        self.status: dict[str, Any] = (read_status(self.folder) or {}) if known else {}
        self.environment: dict[str, Any] = without_secrets(
            read_mapping(self.folder, "environment.json")
        )
        choices = self.environment.pop("choices", None)
        self.choices: dict[str, Any] = choices if isinstance(choices, dict) else {}
        config, overrides = (self._yaml(f"{name}.yaml") for name in ("config", "overrides"))
        self.config: dict[str, Any] = without_secrets(config) if isinstance(config, dict) else {}
        typed = overrides if isinstance(overrides, list) else ()
        self.overrides = masked(str(override) for override in typed)
        self.curves: dict[str, Points] = {}
        try:
            self.curves, damaged = read_curves(read(self.folder, "metrics.csv") or b"")
        except Exception as error:  # no table at all
            self.problems.append(f"metrics.csv: cannot be read: {error}")
        else:
            self.problems += [f"metrics.csv: {damaged} rows are damaged"] if damaged else []

    def _yaml(self, name: str) -> Any:
        try:
            return read_yaml(self.folder, name)
        except (ValueError, RecursionError) as error:
            self.problems.append(str(error))
        return None

    @property
    def diverged(self) -> bool:
        """Whether the same settings would end it once more."""
        return self.status.get("error") == DivergedError.__name__

    @property
    def iteration(self) -> int | None:
        """The last one that it tells of."""
        found = self.status.get("iteration")
        return found if isinstance(found, int) else None

    @property
    def time(self) -> str:
        """Hours, minutes and seconds of training."""
        seconds = self.status.get("seconds")
        if not isinstance(seconds, (int, float)) or not 0 <= seconds < 1e10:
            return ""
        return str(timedelta(seconds=round(seconds)))

    def score_records(self) -> dict[str, dict[str, Any]]:
        """Returns what evaluate.py has written, by the direction that it is of."""
        files = {"": "scores.json", "b_to_a": "scores_b_to_a.json"}
        found = {direction: read_mapping(self.folder, file) for direction, file in files.items()}
        return {direction: record for direction, record in found.items() if record}

    def film(self, name: str, frames: int, most: int) -> list[Film]:
        """Returns the grids of the training, in at most so many bytes."""
        chosen = evenly(grids(self.folder), frames)
        each = most // max(1, len(chosen))
        drawn = [picture(self.folder, file, each, f"iteration {at:,}") for at, file in chosen]
        found = [frame for frame in drawn if frame is not None]
        return [Film(name, found)] if found else []


def page_of_run(folder: Path, command: Command) -> Page:
    """Returns the page of a run; `command` knows how commands are typed here."""
    run = RunRecord(folder)
    status, reason = (str(run.status.get(key) or "") for key in ("status", "reason"))
    page = Page(folder.resolve().name, status or "unknown", reason, notes=run.problems)
    page.notes += [f"what helps: {AGAINST_DIVERGENCE}"] if run.diverged else []
    page.add("facts", _facts, run)
    page.add("films", run.film, "generated", GRIDS, OF_GRIDS)
    page.add("films", _real, run)
    page.add("tables", _scores, run)
    page.add("tables", _while_training, run.curves)
    page.add("charts", charts_of, run.curves)
    page.add("figures", _figures, run)
    page.add("commands", _commands, run, command)
    page.add("details", _details, run)
    return page


def _facts(run: RunRecord) -> list[tuple[str, str]]:
    chosen = [(group, str(run.choices[group])) for group in _CHOICES if run.choices.get(group)]
    counts = {
        "iterations": run.iteration,
        "images seen": _last(run.curves, "train/images_seen"),
        "images a second": _last(run.curves, "train/images_per_second"),
    }
    facts = [(name, f"{value:,.0f}") for name, value in counts.items() if value is not None]
    resumes = read_mapping(run.folder, "resumes.json").get("resumes")
    went_on = [f"after {one['iteration']:,}" for one in resumes] if resumes else []
    texts = {
        "time": run.time,
        "began": str(run.status.get("started") or ""),
        "went on": ", ".join(went_on),
        "seed": str(run.config.get("seed", "")),
    }
    return [*chosen, *facts, *((name, text) for name, text in texts.items() if text)]


def _last(curves: dict[str, Points], name: str) -> float | None:
    points = curves.get(name)
    return points[-1][1] if points else None


def _real(run: RunRecord) -> Iterator[Film]:
    found = picture(run.folder, "samples/000000_real.png", OF_GRIDS // GRIDS)
    if found is not None:
        yield Film("real", [found])


def _figures(run: RunRecord) -> Iterator[Picture]:
    files = sorted(run.folder.glob("scores*/*.png"))[:_MOST_FIGURES]
    for file in files:
        name = file.stem.replace("_", " ")
        found = picture(run.folder, file.relative_to(run.folder), OF_FIGURES // len(files), name)
        if found is not None:
            yield found


def _scores(run: RunRecord) -> Iterator[Shown]:
    for direction, record in run.score_records().items():
        title = f"Scores, {direction}" if direction else "Scores"
        yield Shown(title, score_table(record), describe_protocol(record["protocol"]))


def _while_training(curves: dict[str, Points]) -> list[Shown]:
    """Returns the scores that training took, the last and the best of each."""
    names = shown_scores(name.removeprefix("val/") for name in curves if name[:4] == "val/")
    rows = []
    for name in names:
        points, choose = curves[f"val/{name}"], {"min": min, "max": max, None: None}[better(name)]
        finite = [point for point in points if math.isfinite(point[1])]
        found = choose and choose(finite, key=lambda point: point[1], default=None)
        at, best = found or (None, None)
        rows.append([name, points[-1][1], best, at])
    table = Table(["score", "last", "best", "at iteration"], rows)
    return [Shown("Scores while training", table)] if rows else []


def _commands(run: RunRecord, command: Command) -> list[tuple[str, str]]:
    go_on = [("To go on with it", "resume")]
    if run.diverged:
        saved = any((run.folder / FOLDER / name).is_file() for name in (LAST, PREVIOUS))
        go_on = [("Its weights, with what is changed", "init_from")] if saved else []
    of_run = setting("run", near(run.folder))
    return [
        ("To repeat it", command.typed("train", *run.overrides)),
        *((what, command.typed("train", setting(key, near(run.folder)))) for what, key in go_on),
        ("To score it, and to draw from it", command.typed("evaluate", of_run)),
        ("", command.typed("generate", of_run)),
    ]


def _details(run: RunRecord) -> list[tuple[str, str]]:
    command = masked(map(str, run.environment.get("command") or ()))
    environment = json.dumps(run.environment | {"command": command}, indent=2, ensure_ascii=False)
    settings = OmegaConf.to_yaml(OmegaConf.create(run.config))
    return [("All settings", settings), ("Environment", environment)]
