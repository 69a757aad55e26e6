"""Tells runs apart by the settings that differ, and writes their scores side by side."""

from __future__ import annotations

import csv
import io
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from forger.app.run.folder import read_choices
from forger.app.run.load import Run
from forger.loggers.tracker import flat
from forger.whole_files import write_whole

_IGNORED = (
    *("seed", "paths", "logger", "callbacks", "metrics", "name", "dry_run", "objective"),
    *("resume", "init_from", "sweep"),
)
_ABSENT = "-"


def differing_settings(runs: Sequence[Run]) -> list[dict[str, str]]:
    """Returns for each run the settings in which the runs differ, by key; the seed is no setting.

    A choice such as `model` or a class stands for all settings below it; a setting that members of
    a group share, such as `optimizer.lr`, stands for theirs.
    """
    configs = [_settings(run) for run in runs]
    choices = [{k: str(v) for k, v in read_choices(run.folder).items()} for run in runs]
    chosen = [key for key in _names(choices) if key not in _IGNORED and _differ(choices, key)]
    kept: list[str] = []
    for key in sorted(_names(configs), key=_rank):
        if _differ(configs, key) and not any(_stands_for(other, key) for other in (*chosen, *kept)):
            kept.append(key)
    return [
        {key: choice.get(key, _ABSENT) for key in chosen}
        | {key: str(config.get(key, _ABSENT)) for key in kept}
        for choice, config in zip(choices, configs, strict=True)
    ]


def _settings(run: Run) -> dict[str, Any]:
    plain = OmegaConf.to_container(run.cfg, resolve=True)
    assert isinstance(plain, dict)
    return flat({str(key): value for key, value in plain.items() if key not in _IGNORED})


def _rank(key: str) -> tuple[bool, int]:
    """Orders keys: classes first, then what is shared before what takes it."""
    return not key.endswith("._target_"), key.count(".")


def _stands_for(one: str, other: str) -> bool:
    """Tells whether a difference in one setting makes one in the other, or comes with it."""
    group, _, name = one.rpartition(".")
    if name == "_target_":
        return other.startswith(f"{group}.")
    shared = bool(group) and other.startswith(f"{group}.") and other.endswith(f".{name}")
    return shared or other.startswith(f"{one}.")


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _differ(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    return len({repr(row.get(key, _ABSENT)) for row in rows}) > 1


def alike(settings: Sequence[Mapping[str, str]]) -> list[list[int]]:
    """Groups runs, by index, that differ in their seed at most."""
    groups: dict[str, list[int]] = {}
    for index, one in enumerate(settings):
        groups.setdefault(repr(one), []).append(index)
    return list(groups.values())


def write_comparison(
    runs: Sequence[Run],
    records: Sequence[Mapping[str, Any]],
    scores: Sequence[str],
    note: str,
) -> list[Path]:
    """Writes `comparison.csv`, a row per run, and `comparison.md`, with means over seeds.

    They go to the folder that holds all of the runs.

    Args:
        runs: that were scored.
        records: their `scores.json`.
        scores: names of the columns.
        note: whether they may be compared.

    Returns:
        The files.
    """
    folder = Path(os.path.commonpath([run.folder.absolute().parent for run in runs]))
    settings = differing_settings(runs)
    keys = list(settings[0])
    header = [*keys, "seed", *scores, "run"]
    rows: list[list[str]] = []
    for run, own, record in zip(runs, settings, records, strict=True):
        values = [str(record["scores"].get(name, "")) for name in scores]
        rows.append([*own.values(), str(run.cfg.seed), *values, str(run.folder)])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_whole(folder / "comparison.csv", text.getvalue().encode())

    lines = [[*keys, "seed", *scores, "run"], ["---"] * len(header)]
    for group in alike(settings):
        for index in group:
            own = records[index]["scores"]
            cells = [f"{own[name]:.4g}" if name in own else "" for name in scores]
            place = os.path.relpath(runs[index].folder, folder)
            lines.append(
                [*settings[index].values(), str(runs[index].cfg.seed), *cells, f"`{place}`"]
            )
        if len(group) > 1:
            means = [mean_of([records[i]["scores"].get(name) for i in group]) for name in scores]
            lines.append(
                [*settings[group[0]].values(), f"{len(group)} seeds", *means, "mean ± std"]
            )
    page = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    write_whole(folder / "comparison.md", f"# Comparison\n\n{page}\n\n{note}\n".encode())
    return [folder / "comparison.md", folder / "comparison.csv"]


def mean_of(values: Sequence[float | None]) -> str:
    """Returns mean ± sample standard deviation; empty where a value is missing."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or len(known) < 2:
        return ""
    return f"{statistics.mean(known):.4g} ± {statistics.stdev(known):.2g}"
