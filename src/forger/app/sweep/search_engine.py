"""What a search needs of the engine that runs its jobs. Owns the interface alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from forger.app.config.command import Command
from forger.app.sweep.outcome import Job, Outcome


class Engine(Protocol):
    """What runs jobs, as far as it is needed here."""

    command: Command
    folder: Path
    parallel: int
    judge: Callable[[Outcome], Outcome]

    @property
    def earlier(self) -> Mapping[int, Outcome]:
        """What an interrupted sweep has already done, by number."""

    @property
    def stopped(self) -> bool:
        """Whether no further job is to begin."""

    def begun(self, jobs: Sequence[Job]) -> AbstractContextManager[None]:
        """Holds the sweep's folder."""

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Runs jobs to their ends."""

    def finish(
        self, outcomes: Sequence[Outcome], *, minimise: bool = True, complete: bool = False
    ) -> None:
        """Writes the report of the sweep."""
