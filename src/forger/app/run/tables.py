"""Tables: of anything, of the scores of one run beside its floor, and of several runs side by side.

Imports nothing heavy, since sweeps use it, too.
"""

from __future__ import annotations

import csv
import io
import os
import re
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from forger.app.config.messages import as_overrides
from forger.app.run.folder import read_choices
from forger.score_names import base_of
from forger.whole_files import write_whole

if TYPE_CHECKING:  # imports torch
    from forger.app.run.load import Run

# What each score says, by whatever features, in the order of the table.
MEANINGS = {
    "fid": "Fréchet distance of the features; lower is better",
    "intra_fid": "mean of the Fréchet distances of each class; lower is better",
    "label_accuracy": "share seen as the class asked for, or kept; floor: of all real test images",
    "classification_accuracy": "on real test images, trained on these; floor: trained on real ones",
    "classification_accuracy_of_sources": "the same, trained on the sources as they are",
    "psnr": "dB, to the right images; higher is better; floor: of the sources as they are",
    "ssim": "likeness of structure to the right images; higher is better; floor: of the sources",
    "l1": "mean distance to the right images, of 1; lower is better; floor: of the sources",
    "feature_distance": "of features to the right images; lower is better; floor: of the sources",
    "right": "share of images that show what their texts say; floor: of real ones, measured",
    "r_precision": "share whose text a matcher ranks first among 100; floor: of real held-out ones",
    "kid": "kernel distance of the features, unbiased; lower is better",
    "classifier_score": "Inception Score by the data's own classifier; higher is better",
    "inception_score": "higher is better",
    "precision": "share of the generated among the real; higher is better",
    "recall": "share of the real among the generated; higher is better",
    "density": "how densely the generated lie among the real; real ones: about 1",
    "coverage": "share of the real with a generated neighbour; higher is better",
    "class_entropy": "nats, of the classes as the classifier sees them; even: ln(classes)",
    "classes_reached": "classes with a tenth of their real share or more",
    "modes_reached": "classes seen in an image or more; floor: of real test images",
    "kl_to_uniform": "nats, from equally frequent classes to those seen; lower is better",
    "d_tpr": "held-out real images that D calls real",
    "d_tnr": "generated images that D calls fake",
    "d_accuracy": "mean of both",
    "d_relative_tpr": "held-out real images above the middle of D's mean logits of both kinds",
    "d_relative_tnr": "generated images below it",
    "d_relative_accuracy": "mean of both; D's loss has no absolute boundary",
    "d_auroc": "D telling held-out real from generated; 0.5: it cannot",
    "d_gap": "D's mean logit on training images minus held-out ones",
    "d_gap_auroc": "D telling training images from held-out ones; 0.5: no overfitting",
}
_IGNORED = (  # in comparing runs
    *("seed", "paths", "logger", "callbacks", "metrics", "name", "dry_run", "objective"),
    *("resume", "init_from", "sweep"),
)
_ABSENT = "-"
_WIDTH = 1000  # columns: a table is as wide as its text, also where the output is no terminal
_ESCAPES = str.maketrans(
    {"|": r"\|", "<": "&lt;", "*": r"\*", "`": r"\`", "\\": r"\\", "\n": " ", "\r": " "}
)


@dataclass(frozen=True)
class Table:
    """Rows of values under a header; `None` is an empty cell."""

    header: Sequence[str]
    rows: Sequence[Sequence[object]]

    def terminal(self, width: int, texts: Collection[int] = (0,)) -> str:
        """Returns plain text; columns of `texts` are on the left, and folded where too long."""
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


def print_scores(record: Mapping[str, Any], run: Run) -> None:
    """Prints the scores of one run, as `scores.json` has them, beside their floor."""
    table = score_table(record).terminal(_WIDTH, texts=(0, 3))
    print("\n".join([str(run.folder), table, describe_protocol(record["protocol"])]), flush=True)


def score_table(record: Mapping[str, Any]) -> Table:
    """Returns the scores in a `scores.json` beside their floor, with what each says."""
    header = ["score", "value", f"floor\n{record['images']['floor']:,} real", ""]
    rows = []
    for name in shown_scores(record["scores"]):
        values = [_number(record[part], name) for part in ("scores", "floor")]
        rows.append([name, *values, MEANINGS[base_of(name)]])
    return Table(header, rows)


def shown_scores(names: Iterable[str]) -> list[str]:
    """Returns the scores that a table shows, in its order: one by other features is another."""
    order = list(MEANINGS)
    known = [name for name in dict.fromkeys(names) if base_of(name) in MEANINGS]
    return sorted(known, key=lambda name: order.index(base_of(name)))


def _number(scores: Mapping[str, float], name: str) -> str | None:
    """Returns a score, with its standard deviation over subsets or splits where it has one."""
    spread = scores.get(f"{name}_std")
    if name not in scores:
        return None
    return f"{scores[name]:.4g}" + ("" if spread is None else f" ± {spread:.2g}")


def describe_protocol(protocol: Mapping[str, Any]) -> str:
    """Says in two lines how scores and floor were taken."""
    extractor, generated, floor = protocol["extractor"], protocol["generated"], protocol["floor"]
    reference, count = protocol["reference"], generated["count"]
    few = (
        f", fewer than the {count:,} generated: its FID is higher" if floor["count"] < count else ""
    )
    return (
        f"{count:,} images of {generated['checkpoint']}, {generated['weights']},"
        f" seed {generated['seed']}, against {reference['count']:,} real {reference['split']}"
        f" images of {protocol['data']['name']}, by {extractor['name']}"
        f" {extractor['fingerprint'][:12]}\nfloor: {floor['count']:,} real {floor['split']}"
        f" images{few}"
    )


def compare(runs: Sequence[Run], records: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Prints the scores of several runs, and writes `comparison.csv` and `comparison.md`.

    Where only seeds differ there is a mean ± sample standard deviation. The files, which are
    returned, go to the folder that holds all of the runs; `records` are their `scores.json`.
    """
    names, settings = (
        shown_scores(name for one in records for name in one["scores"]),
        differing(runs),
    )
    head = [*settings[0], "seed", *names, "run"]
    rows, alone = [], []
    groups: dict[str, list[int]] = {}
    for index, one in enumerate(settings):
        groups.setdefault(repr(one), []).append(index)
    for group in groups.values():
        own = list(settings[group[0]].values())
        scores = [[records[index]["scores"].get(name) for name in names] for index in group]
        for index, values in zip(group, scores, strict=True):
            alone.append([*own, runs[index].cfg.seed, *values, str(runs[index].folder)])
        rows += alone[-len(group) :]
        if len(group) > 1:
            means = [_mean(values) for values in zip(*scores, strict=True)]
            rows.append([*own, f"{len(group)} seeds", *means, "mean ± std"])
    note = comparability(records)
    header, *lines = zip(head, *(map(short, row) for row in rows), strict=True)
    print("\n".join(["comparison", Table(header, lines).terminal(_WIDTH), note]), flush=True)
    folder = Path(os.path.commonpath([run.folder.absolute().parent for run in runs]))
    page = f"# Comparison\n\n{Table(head, rows).markdown()}\n\n{note}\n"
    files = {folder / "comparison.md": page, folder / "comparison.csv": Table(head, alone).csv()}
    for path, text in files.items():
        write_whole(path, text.encode())
    return list(files)


def comparability(records: Sequence[Mapping[str, Any]]) -> str:
    """Says whether the scores may be compared: only under one protocol."""
    parts = [("extractor", "fingerprint"), ("data", "hash")]
    parts += [("generated", "count"), ("reference", "count")]
    protocols = [record["protocol"] for record in records]
    others = [part for part, key in parts if len({one[part][key] for one in protocols}) > 1]
    if others:
        return f"NOT COMPARABLE: these runs were scored with different {', '.join(others)}"
    return "the same extractor, data and counts throughout; std over runs (n - 1)"


def _mean(values: Sequence[float | None]) -> str | None:
    known = [value for value in values if value is not None]
    exact = len(known) == len(values)
    return f"{statistics.mean(known):.4g} ± {statistics.stdev(known):.2g}" if exact else None


def differing(runs: Sequence[Run]) -> list[dict[str, str]]:
    """Returns for each run the settings in which the runs differ, by key; the seed is no setting.

    A choice such as `model` or a class stands for all settings below it; a setting that members of
    a group share, such as `optimizer.lr`, stands for theirs.
    """
    configs: list[Any] = [OmegaConf.to_container(run.cfg, resolve=True) for run in runs]
    return differing_settings(configs, [read_choices(run.folder) for run in runs])


def differing_settings(
    configs: Sequence[dict[str, Any]], choices: Sequence[Mapping[str, Any]]
) -> list[dict[str, str]]:
    """Does what `differing` does, of plain configs and the choices that made them."""
    rows = []
    for config, chosen in zip(configs, choices, strict=True):
        row = dict(one.split("=", 1) for one in as_overrides("", config))
        row |= {group: str(choice) for group, choice in chosen.items()}
        rows.append({k: v for k, v in row.items() if re.split("[./]", k)[0] not in _IGNORED})
    keys = dict.fromkeys(key for row in rows for key in row)
    differ = [key for key in keys if len({row.get(key, _ABSENT) for row in rows}) > 1]
    kept: list[str] = []
    for key in sorted(differ, key=_depth):
        if not any(_stands_for(other, key) for other in kept):
            kept.append(key)
    return [{key: row.get(key, _ABSENT) for key in kept} for row in rows]


def _depth(key: str) -> tuple[bool, int]:
    """Sorts choices and classes before what they stand for, and what is shared before the rest."""
    dots = key.count(".")
    return dots > 0 and not key.endswith("._target_"), dots


def _stands_for(one: str, other: str) -> bool:
    """Tells whether a difference in one setting makes one in the other, or comes with it."""
    group, _, name = one.rpartition(".")
    inside = bool(group) and other.startswith(f"{group}.")
    alike = name == "_target_" or other.endswith(f".{name}")
    return other.startswith(f"{one}.") or (inside and alike)
