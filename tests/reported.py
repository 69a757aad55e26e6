"""Folders of runs and sweeps that never ran, as a report reads them; what is wrong in HTML."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from forger.app.config.command import Command

COMMAND = Command(Path("configs"), "train", (), program=("python", "train.py"))
SCORES = {
    "scores": {"fid": 12.25, "fid_std": 0.5},
    "floor": {"fid": 3.5},
    "images": {"floor": 1000},
    "protocol": {
        "extractor": {"name": "inception", "fingerprint": "abcdef"},
        "generated": {"checkpoint": "last.ckpt", "weights": "ema", "seed": 0, "count": 900},
        "reference": {"count": 900, "split": "test"},
        "data": {"name": "MNIST"},
        "floor": {"count": 1000, "split": "train"},
    },
}
_EMPTY = ("meta", "img", "input", "br", "link", "hr")  # elements without an end


def write_run(
    folder: Path,
    rows: int = 40,
    grids: Iterable[int] = (0, 500, 1000),
    side: int = 64,
    **status: Any,
) -> Path:
    """Writes the folder of a run; grids are `side` pixels wide."""
    (folder / "samples").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8)
    image = Image.fromarray(noise)
    image.save(folder / "samples" / "last.png")
    for iteration in grids:
        shutil.copy(folder / "samples" / "last.png", folder / f"samples/{iteration:06d}_ema.png")
    ends = {"status": "finished", "reason": None, "iteration": rows * 50, "seconds": 61.0} | status
    config = {"seed": 3, "model": {"generator": {"width": 8}}, "logger": {"api_key": "hunter2"}}
    environment = {
        "command": ["train.py", "seed=3"],
        "choices": {"model": "dcgan", "loss": "hinge"},
    }
    for name, content in {"status": ends, "environment": environment}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "config.yaml").write_text(json.dumps(config))  # which is YAML, too
    (folder / "overrides.yaml").write_text("- model=dcgan\n- logger.api_key=hunter2\n")
    names = ["train/loss_g", "train/loss_d", "train/d_real", "train/tpr", "val/fid"]
    lines = [f"step,{','.join(names)}"]
    lines += [f"{50 * n},{1 + 1 / n},{n % 7},0.5,0.9,{100 / n}" for n in range(1, rows + 1)]
    (folder / "metrics.csv").write_text("\r\n".join(lines) + "\r\n")
    return folder


def write_sweep(folder: Path, jobs: Mapping[int, tuple[str, ...]], **status: Any) -> Path:
    """Writes the folder of a sweep with a run for each job's overrides; `status` is of all."""
    (folder / ".jobs").mkdir(parents=True)
    listed = [{"number": n, "overrides": overrides} for n, overrides in jobs.items()]
    asked = {"words": ["model=a,b", "logger.api_key=hunter2"], "jobs": listed}
    (folder / "sweep.json").write_text(json.dumps(asked))
    for number, overrides in jobs.items():
        run = write_run(folder / f"{number}_run", rows=20 + number, **status)
        (run / "report.html").touch()
        ends = {"status": "finished", "overrides": overrides, "folder": run.name} | status
        (folder / ".jobs" / f"{number}.json").write_text(json.dumps(ends | {"seconds": 9.5}))
    return folder


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.problems: list[str] = []
        self.text = ""
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        if len(set(names)) < len(names):
            self.problems.append(f"<{tag}> has an attribute twice")
        self.problems += [f"<{tag} {name}>" for name in names if name.startswith("on")]
        self.addresses += [str(v) for name, v in attrs if name in ("src", "href", "action", "data")]
        if tag not in _EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _EMPTY:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1] != tag:
            self.problems.append(f"</{tag}> inside of {self.open}")
        else:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data


def read_page(page: str) -> _Reader:
    """Returns the text, addresses and problems of an HTML page."""
    assert page.startswith("<!doctype html>")
    reader = _Reader()
    reader.feed(page)
    reader.problems += [f"<{tag}> is not closed" for tag in reader.open]
    return reader
