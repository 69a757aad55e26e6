"""Trainings by two processes, for tests that start them from the command line."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training import latest, run_folder, short


def two(folder: Path, *words: str, steps: int = 100_000) -> list[str]:
    """Overrides of a training by two processes of one thread, without scores."""
    own = ["metrics=none", "trainer=ddp_cpu", "trainer.threads=1", *words]
    return latest(short(folder, *own, steps=steps))


def until(true: Callable[[], object], seconds: float = 120) -> None:
    """Waits for something to happen."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def is_training(folder: Path) -> bool:
    return any((folder / "logs").rglob("metrics.csv"))


def status(folder: Path) -> dict[str, Any]:
    """What the only run says of itself."""
    content: dict[str, Any] = json.loads((run_folder(folder) / "status.json").read_text())
    return content
