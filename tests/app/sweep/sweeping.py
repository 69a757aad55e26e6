"""Whole sweeps from the command line, and what they leave behind."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from training import latest

TINY = (
    *("data=mnist_sample", "data.batch_size=8", "trainer=cpu", "trainer.threads=1"),
    *("trainer.max_steps=4", "trainer.log_every_n_steps=1", "callbacks.samples.n=4"),
)


def tiny(folder: Path, *overrides: str) -> list[str]:
    """The arguments of a sweep of few iterations that writes below `folder` alone."""
    own = [f"paths.log_dir={folder / 'logs'}", f"paths.cache_dir={folder / 'cache'}"]
    return ["-m", *latest([*TINY, "metrics=none", *own, *overrides])]


def sweep_folder(folder: Path) -> Path:
    """The only sweep that there is."""
    (found,) = (path.parent for path in (folder / "logs").rglob("sweep.json"))
    return found


def job(sweep: Path, number: int) -> Path:
    """The run folder of a job."""
    (found,) = sweep.glob(f"{number}_*")
    return found


def table(sweep: Path) -> list[dict[str, str]]:
    """The rows of `sweep.csv`."""
    with (sweep / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


def same_bits(*runs: Path) -> bool:
    """Tells whether two runs ended with the same weights."""
    paths = [run / "checkpoints" / "last.ckpt" for run in runs]
    first, second = (torch.load(path, weights_only=True)["state_dict"] for path in paths)
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )
