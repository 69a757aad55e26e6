"""A sweep over every combination of some settings. Owns which jobs that are, and their numbers."""

from __future__ import annotations

from collections.abc import Sequence

from forger.app.run.job_words import without_trust
from forger.app.sweep.engine import Engine
from forger.app.sweep.outcome import Job, Outcome
from forger.errors import ConfigError
from forger.secrets import masked


def run_grid(engine: Engine, combinations: Sequence[Sequence[str]]) -> list[Outcome]:
    """Runs one job for each combination of words, and reports however the sweep ends.

    Raises:
        ConfigError: a resumed sweep's words now make other jobs.
        KeyboardInterrupt, Interrupted: the user stopped it.
    """
    jobs = [
        Job(number=number, overrides=tuple(without_trust(words)))
        for number, words in enumerate(combinations)
    ]
    with engine.begun(jobs):
        recorded = engine.record.jobs()
        if [list(job.overrides) for job in recorded] != [masked(job.overrides) for job in jobs]:
            raise ConfigError(
                f"sweep.resume={engine.folder}: its words now make {len(jobs)} jobs where they"
                f" made {len(recorded)} others; begin a new sweep"
            )
        try:
            engine.run(jobs)
        finally:
            engine.finish([engine.record.outcome(job) for job in jobs])
    return []
