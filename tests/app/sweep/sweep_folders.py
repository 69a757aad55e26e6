"""Sweeps that never ran: run folders with just what a report reads."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from forger.app.sweep.outcome import Outcome, Status


def job(
    sweep: Path,
    number: int,
    *words: str,
    scores: Sequence[float] = (),
    status: Status = "finished",
    reason: str | None = None,
    value: float | None = None,
    seconds: float | None = 12.0,
    column: str = "val/fid",
) -> Outcome:
    """Writes a run folder whose scores were taken at iterations 100, 200 ..., and samples."""
    folder = sweep / str(number)
    folder.mkdir(parents=True)
    if scores:
        (folder / "metrics.csv").write_text(metrics(scores, column), newline="")
        grid(folder / "samples" / "last.png", shade=100 + number)
    (folder / "status.json").write_text(json.dumps({"iteration": 100 * len(scores) + 7}))
    return Outcome(
        number=number,
        overrides=("data=mnist_sample", "sweep.fail_fast=false", *words),
        folder=folder,
        status=status,
        reason=reason,
        value=value,
        seconds=seconds,
    )


def metrics(scores: Sequence[float], column: str = "val/fid") -> str:
    """A metrics.csv as the logger writes it: most rows hold no score."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["step", "train/loss_g", column])
    for index, score in enumerate(scores, start=1):
        writer.writerow([100 * index - 50, 0.5, None])
        writer.writerow([100 * index, None, score])
    return text.getvalue()


def grid(path: Path, shade: int, side: int = 8, size: int = 28) -> None:
    """A grid as the samples callback draws it, each image of one shade, brighter to the right."""
    pixels = np.full((side * (size + 2) + 2,) * 2, 64, dtype=np.uint8)
    for row in range(side):
        for column in range(side):
            top, left = 2 + row * (size + 2), 2 + column * (size + 2)
            pixels[top : top + size, left : left + size] = shade + 10 * column
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
