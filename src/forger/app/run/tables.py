"""Scores as tables to read. Owns the words and the rounding, not the numbers."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from forger.app.run.comparison import alike, differing_settings
from forger.app.run.load import Run
from forger.metrics.names import base_of

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


def score_table(record: Mapping[str, Any], run: Run) -> Table:
    """Returns the scores of one run beside their floor, with the protocol as a caption."""
    protocol = record["protocol"]
    table = Table(title=str(run.folder), caption=protocol_line(protocol), title_justify="left")
    table.caption_justify = "left"
    table.add_column("score", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    floor = f"floor\n{record['images']['floor']:,} real"
    table.add_column(floor, justify="right", no_wrap=True)
    table.add_column("")
    for name in shown(record["scores"]):
        floor = number(record["floor"], name) if name in record["floor"] else ""
        table.add_row(name, number(record["scores"], name), floor, MEANINGS[base_of(name)])
    return table


def shown(names: Iterable[str]) -> list[str]:
    """Returns the scores that a table shows, in its order: one by other features is another."""
    places = {name: place for place, name in enumerate(MEANINGS)}
    known = [name for name in dict.fromkeys(names) if base_of(name) in places]
    return sorted(known, key=lambda name: places[base_of(name)])


def number(scores: Mapping[str, float], name: str) -> str:
    """Returns a score, with its standard deviation over subsets or splits where it has one."""
    spread = scores.get(f"{name}_std")
    return f"{scores[name]:.4g}" + ("" if spread is None else f" ± {spread:.2g}")


def protocol_line(protocol: Mapping[str, Any]) -> str:
    """Returns a protocol in a few lines."""
    extractor, generated = protocol["extractor"], protocol["generated"]
    accuracy = extractor.get("accuracy")
    right = "" if accuracy is None else f", {accuracy:.2%} right on test images"
    return (
        f"{generated['count']:,} images of {generated['checkpoint']}, {generated['weights']},"
        f" seed {generated['seed']}, against {protocol['reference']['count']:,} real"
        f" {protocol['reference']['split']} images of {protocol['data']['name']}\n"
        f"floor: {floor_line(protocol)}\n"
        f"features: {extractor['name']} {extractor['fingerprint'][:12]}{right}; resize"
        f" {extractor.get('resize', 'none')}; {protocol['precision']}"
    )


def floor_line(protocol: Mapping[str, Any]) -> str:
    """Says what the floor was taken from, and what it means that it had fewer images."""
    floor, generated = protocol["floor"], protocol["generated"]["count"]
    line = f"{floor['count']:,} real {floor['split']} images"
    if floor["count"] >= generated:
        return line
    return (
        f"{line}, all that there are: fewer than the {generated:,} generated, so its FID is higher"
    )


def comparison_table(runs: Sequence[Run], records: Sequence[Mapping[str, Any]]) -> Table:
    """Returns the scores of several runs, and mean ± standard deviation where only seeds differ."""
    table = Table(title="comparison", caption=comparison_line(records), title_justify="left")
    table.caption_justify = "left"
    table.add_column("score", no_wrap=True)
    settings = differing_settings(runs)
    groups = alike(settings)
    for group in groups:
        for index in group:
            words = [f"{key}={value}" for key, value in settings[index].items()]
            table.add_column("\n".join([*words, f"seed {runs[index].cfg.seed}"]), justify="right")
        if len(group) > 1:
            table.add_column(f"mean ± std\n{len(group)} seeds", justify="right", style="bold")
    for name in shown(name for record in records for name in record["scores"]):
        cells = []
        for group in groups:
            values = [records[i]["scores"].get(name, float("nan")) for i in group]
            cells += [f"{value:.4g}" for value in values]
            if len(group) > 1:
                cells.append(f"{statistics.mean(values):.4g} ± {statistics.stdev(values):.2g}")
        table.add_row(name, *cells)
    return table


def comparison_line(records: Sequence[Mapping[str, Any]]) -> str:
    """Says whether the scores may be compared: only under one protocol."""
    lines = {
        part: {record["protocol"][part][key] for record in records}
        for part, key in (("extractor", "fingerprint"), ("data", "hash"))
    }
    lines["counts"] = {
        f"{r['protocol']['generated']['count']}/{r['protocol']['reference']['count']}"
        for r in records
    }
    differing = [part for part, values in lines.items() if len(values) > 1]
    if differing:
        return f"NOT COMPARABLE: these runs were scored with different {', '.join(differing)}"
    return "the same extractor, data and counts throughout; std over runs (n - 1)"


def show(table: Table) -> None:
    """Prints a table as wide as its text, also where the output is no terminal."""
    console = Console(soft_wrap=True)
    if not console.is_terminal:
        console = Console(width=max(console.width, 140))
    console.print(table)
