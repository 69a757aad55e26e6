"""Sweeps that never ran: run folders with just what a report reads."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from forger.app.sweep.folder import Outcome
from forger.pictures import pixel_grid, png_bytes


def job(
    sweep: Path,
    number: int,
    *overrides: str,
    scores: Sequence[float] = (),
    column: str = "val/fid",
    **ends: Any,
) -> Outcome:
    """Writes a run folder whose scores were taken at iterations 100, 200 ..., and samples."""
    folder = sweep / str(number)
    folder.mkdir(parents=True)
    if scores:
        (folder / "metrics.csv").write_text(metrics(scores, column), newline="")
        grid(folder / "samples" / "last.png", shade=100 + number)
    (folder / "status.json").write_text(json.dumps({"iteration": 100 * len(scores) + 7}))
    asked = ("data=mnist_sample", "sweep.fail_fast=false", *overrides)
    ends = {"status": "finished", "seconds": 12.0} | ends
    return Outcome(number=number, overrides=asked, folder=folder, **ends)


def table(sweep: Path) -> list[dict[str, str]]:
    """The rows of `sweep.csv`."""
    with (sweep / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


def metrics(scores: Sequence[float], column: str = "val/fid") -> str:
    """A metrics.csv as the logger writes it: most rows hold no score."""
    rows = [f"step,train/loss_g,{column}"]
    for index, score in enumerate(scores, start=1):
        rows += [f"{100 * index - 50},0.5,", f"{100 * index},,{score}"]
    return "".join(f"{row}\r\n" for row in rows)


def grid(path: Path, shade: int, side: int = 8, size: int = 28) -> None:
    """A grid as the samples callback draws it, each image of one shade, brighter to the right."""
    shades = shade + 10 * torch.arange(side, dtype=torch.uint8).repeat(side)
    pixels = shades.view(-1, 1, 1, 1).expand(-1, 1, size, size)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_bytes(pixel_grid(pixels, width=side * size)))
    config = {"callbacks": {"samples": {"n": side * side}}}  # by which the layout is known
    (path.parents[1] / "config.yaml").write_text(json.dumps(config))
