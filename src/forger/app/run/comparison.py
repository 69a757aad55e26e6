"""Tables of scores: of one run beside its floor, and of several runs side by side."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from forger.app.run.folder import read_choices
from forger.app.run.load import Run
from forger.app.run.tables import Table, short
from forger.score_names import base_of
from forger.whole_files import write_whole

# What each score says, by whatever features, in the order of the table.
MEANINGS = {
    "fid": "Fréchet distance of the features; lower is better",
    "kid": "kernel distance of the features, unbiased; lower is better",
    "classifier_score": "Inception Score by the data's own classifier; higher is better",
    "inception_score": "higher is better",
    "precision": "share of the generated among the real; higher is better",
    "recall": "share of the real among the generated; higher is better",
    "density": "how densely the generated lie among the real; real ones: about 1",
    "coverage": "share of the real with a generated neighbour; higher is better",
    "class_entropy": "nats, of the classes as the classifier sees them; even: ln(classes)",
    "classes_reached": "classes with a tenth of their real share or more",
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
_IGNORED = (
    *("seed", "paths", "logger", "callbacks", "metrics", "name", "dry_run", "objective"),
    *("resume", "init_from", "sweep"),
)
_ABSENT = "-"
_WIDTH = 1000  # columns: a table is as wide as its text, also where the output is no terminal


def print_scores(record: Mapping[str, Any], run: Run) -> None:
    """Prints the scores of one run beside their floor, and the protocol."""
    header = ["score", "value", f"floor\n{record['images']['floor']:,} real", ""]
    rows = []
    for name in shown(record["scores"]):
        floor = number(record["floor"], name) if name in record["floor"] else None
        rows.append([name, number(record["scores"], name), floor, MEANINGS[base_of(name)]])
    table = Table(header, rows).terminal(_WIDTH, texts=(0, 3))
    print("\n".join([str(run.folder), table, protocol_line(record["protocol"])]), flush=True)


def shown(names: Iterable[str]) -> list[str]:
    """Returns the scores that a table shows, in its order: one by other features is another."""
    order = list(MEANINGS)
    known = [name for name in dict.fromkeys(names) if base_of(name) in MEANINGS]
    return sorted(known, key=lambda name: order.index(base_of(name)))


def number(scores: Mapping[str, float], name: str) -> str:
    """Returns a score, with its standard deviation over subsets or splits where it has one."""
    spread = scores.get(f"{name}_std")
    return f"{scores[name]:.4g}" + ("" if spread is None else f" ± {spread:.2g}")


def protocol_line(protocol: Mapping[str, Any]) -> str:
    """Returns a protocol in a few lines."""
    extractor, generated, floor = protocol["extractor"], protocol["generated"], protocol["floor"]
    accuracy, count, note = extractor.get("accuracy"), generated["count"], ""
    right = "" if accuracy is None else f", {accuracy:.2%} right on test images"
    if floor["count"] < count:
        note = f", all that there are: fewer than the {count:,} generated, so its FID is higher"
    return (
        f"{count:,} images of {generated['checkpoint']}, {generated['weights']},"
        f" seed {generated['seed']}, against {protocol['reference']['count']:,} real"
        f" {protocol['reference']['split']} images of {protocol['data']['name']}\n"
        f"floor: {floor['count']:,} real {floor['split']} images{note}\n"
        f"features: {extractor['name']} {extractor['fingerprint'][:12]}{right}; resize"
        f" {extractor.get('resize', 'none')}; {protocol['precision']}"
    )


def compare(runs: Sequence[Run], records: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Prints the scores of several runs, and writes `comparison.csv` and `comparison.md`.

    Where only seeds differ there is a mean ± sample standard deviation. The files, which are
    returned, go to the folder that holds all of the runs; `records` are their `scores.json`.
    """
    names, settings = shown(name for one in records for name in one["scores"]), differing(runs)
    folder = Path(os.path.commonpath([run.folder.absolute().parent for run in runs]))
    keys, columns, lines = list(settings[0]), [["score", *names]], []
    for group in alike(settings):
        values = [[records[i]["scores"].get(name) for name in names] for i in group]
        own = list(settings[group[0]].values())
        for i, scores in zip(group, values, strict=True):
            title = "\n".join(f"{key}={value}" for key, value in settings[i].items())
            columns.append([f"{title}\nseed {runs[i].cfg.seed}".strip(), *map(short, scores)])
            name = f"`{os.path.relpath(runs[i].folder, folder)}`"
            lines.append([*own, runs[i].cfg.seed, *scores, name])
        if len(group) > 1:
            means = [mean_of(scores) for scores in zip(*values, strict=True)]
            columns.append([f"mean ± std\n{len(group)} seeds", *means])
            lines.append([*own, f"{len(group)} seeds", *means, "mean ± std"])
    header, *rows = zip(*columns, strict=True)
    note = comparison_note(records)
    print("\n".join(["comparison", Table(header, rows).terminal(_WIDTH), note]), flush=True)
    head = [*keys, "seed", *names, "run"]
    page = f"# Comparison\n\n{Table(head, lines).markdown()}\n\n{note}\n"
    jobs = [
        [*own.values(), run.cfg.seed, *(record["scores"].get(name) for name in names), run.folder]
        for run, own, record in zip(runs, settings, records, strict=True)
    ]
    files = {"comparison.md": page, "comparison.csv": Table(head, jobs).csv()}
    for name, text in files.items():
        write_whole(folder / name, text.encode())
    return [folder / name for name in files]


def comparison_note(records: Sequence[Mapping[str, Any]]) -> str:
    """Says whether the scores may be compared: only under one protocol."""
    protocols = [record["protocol"] for record in records]
    values = {
        "extractor": {one["extractor"]["fingerprint"] for one in protocols},
        "data": {one["data"]["hash"] for one in protocols},
        "counts": {(one["generated"]["count"], one["reference"]["count"]) for one in protocols},
    }
    differing = [part for part, found in values.items() if len(found) > 1]
    if differing:
        return f"NOT COMPARABLE: these runs were scored with different {', '.join(differing)}"
    return "the same extractor, data and counts throughout; std over runs (n - 1)"


def mean_of(values: Sequence[float | None]) -> str:
    """Returns mean ± sample standard deviation; empty where a value is missing."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or len(known) < 2:
        return ""
    return f"{statistics.mean(known):.4g} ± {statistics.stdev(known):.2g}"


def differing(runs: Sequence[Run]) -> list[dict[str, str]]:
    """Returns for each run the settings in which the runs differ, by key; the seed is no setting.

    A choice such as `model` or a class stands for all settings below it; a setting that members of
    a group share, such as `optimizer.lr`, stands for theirs.
    """
    configs = []
    for run in runs:
        plain: Any = OmegaConf.to_container(run.cfg, resolve=True)
        configs.append(_flatten({str(key): v for key, v in plain.items() if key not in _IGNORED}))
    choices = [{k: str(v) for k, v in read_choices(run.folder).items()} for run in runs]
    chosen = [key for key in _differing_keys(choices) if key not in _IGNORED]
    kept: list[str] = []
    keys = sorted(_differing_keys(configs), key=lambda key: key.count("."))  # what is shared first
    for key in sorted(keys, key=lambda key: not key.endswith("._target_")):  # classes before all
        if not any(_stands_for(other, key) for other in (*chosen, *kept)):
            kept.append(key)
    return [
        {key: choice.get(key, _ABSENT) for key in chosen}
        | {key: str(config.get(key, _ABSENT)) for key in kept}
        for choice, config in zip(choices, configs, strict=True)
    ]


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested settings: `{"a": {"b": 1}}` becomes `{"a.b": 1}`; lists stay."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        nested = isinstance(value, Mapping) and value
        found |= _flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return found


def _stands_for(one: str, other: str) -> bool:
    """Tells whether a difference in one setting makes one in the other, or comes with it."""
    group, _, name = one.rpartition(".")
    if name == "_target_":
        return other.startswith(f"{group}.")
    shared = bool(group) and other.startswith(f"{group}.") and other.endswith(f".{name}")
    return shared or other.startswith(f"{one}.")


def _differing_keys(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for row in rows for key in row)
    return [key for key in keys if len({repr(row.get(key, _ABSENT)) for row in rows}) > 1]


def alike(settings: Sequence[Mapping[str, str]]) -> list[list[int]]:
    """Groups runs, by index, that differ in their seed at most."""
    groups: dict[str, list[int]] = {}
    for index, one in enumerate(settings):
        groups.setdefault(repr(one), []).append(index)
    return list(groups.values())
