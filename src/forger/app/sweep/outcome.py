"""What is known about one job of a sweep. Owns the words for how a job ended.

Imports neither torch nor anything that does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Status: TypeAlias = Literal["finished", "pruned", "failed", "interrupted", "running", "missing"]
"""`missing` has not begun; `interrupted` can go on; `pruned` was ended early by a search."""

BAD: frozenset[Status] = frozenset({"failed", "interrupted", "missing"})
"""What makes a sweep's exit code differ from 0."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job to launch.

    Args:
        number: its place in the sweep, from 0.
        overrides: its words, as Hydra takes them; those of the whole sweep among them.
    """

    number: int
    overrides: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one job.

    Args:
        number: its place in the sweep, from 0.
        overrides: its words; those of the whole sweep among them.
        folder: of its run; it may not exist.
        status: how it ended.
        reason: why it did not finish.
        error: class name of what it raised, for example `DivergedError`.
        value: the metric that `objective` names.
        seconds: from its start to its end, all attempts together; `None`: unknown.
    """

    number: int
    overrides: tuple[str, ...]
    folder: Path
    status: Status
    reason: str | None = None
    error: str | None = None
    value: float | None = None
    seconds: float | None = None


ended: dict[int, Outcome] = {}
"""What became of the jobs of this process's last sweep, by number, for the front door."""
