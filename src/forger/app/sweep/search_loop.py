"""Trials asked for, run and told, until enough have ended. Owns how many, and which job is which.

Optuna chooses, the engine runs, the study remembers.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path

from optuna.samplers import GridSampler
from optuna.storages import BaseStorage
from optuna.study import Study

from forger.app.config.messages import quoted
from forger.app.sweep.outcome import Job, Outcome
from forger.app.sweep.search_engine import Engine
from forger.app.sweep.search_mending import mend
from forger.app.sweep.search_report import report
from forger.app.sweep.search_space import Space
from forger.app.sweep.search_study import (
    FOLDER,
    INTERRUPTED,
    JOB,
    OBJECTIVE,
    REPEATS,
    SWEEP,
    WORDS,
    ended,
    judged,
    note,
    tell,
)
from forger.secrets import masked

log = logging.getLogger(__name__)


def wanted_trials(study: Study, space: Space, n_trials: int) -> int:
    """Returns how many trials are to end: no more than a grid has."""
    if not isinstance(study.sampler, GridSampler):
        return n_trials
    size = grid_size(space)
    if size != n_trials:
        log.info("%-15s %d of %d combinations", "grid", min(size, n_trials), size)
    return min(n_trials, size)


def grid_size(space: Space) -> int:
    """Returns how many combinations there are."""
    return math.prod(len(values) for values in space.grid().values())


class Search:
    """One search, or what is left of it.

    Args:
        engine: runs the trials.
        study: chooses them.
        storage: that the study lies in.
        url: of the storage, for the jobs, which report to it.
        space: what is searched.
    """

    def __init__(
        self, engine: Engine, study: Study, storage: BaseStorage, url: str, space: Space
    ) -> None:
        self.engine, self.study, self.storage, self.url = engine, study, storage, url
        self.space = space
        engine.judge = judged
        self._outcomes: dict[int, Outcome] = {}
        here = str(engine.folder)
        self._numbered_alike = study.user_attrs.get(SWEEP, here) == here
        if SWEEP not in study.user_attrs:
            study.set_user_attr(SWEEP, here)

    def run(self, trials: int, at_once: int) -> None:
        """Runs trials until as many have ended by themselves, and reports however that ends.

        What is interrupted is not tried again here, where the same might end it again, but when the
        search goes on.

        Args:
            trials: that are to end, earlier ones among them.
            at_once: chosen and run at a time.

        Raises:
            KeyboardInterrupt, Interrupted: the user stopped the search.
        """
        before = len(self.study.trials)
        repeated = mend(self.study, self.storage, lambda: self.engine.earlier)
        self._outcomes.update(self.engine.earlier)
        left = trials - ended(self.study)
        if before:
            again = f", {len(repeated)} interrupted to repeat" if repeated else ""
            log.info("%-15s goes on: %d of %d trials left%s", "search", max(left, 0), trials, again)
        else:
            log.info("%-15s %d trials", "search", trials)
        if left <= 0:
            full = isinstance(self.study.sampler, GridSampler) and trials == grid_size(self.space)
            more = "every combination has run" if full else "write hydra.sweeper.n_trials=<more>"
            log.info("%-15s nothing is left to do: %s", "search", more)
        try:
            while left > 0 and not self.engine.stopped:
                batch = min(left, at_once)
                self._run(batch)
                left -= batch
        finally:
            minimise = self.study.direction.name == "MINIMIZE"
            self.engine.finish(self._known(), minimise=minimise, complete=left <= 0)
            folder, program = self.engine.folder, self.engine.command.program
            report(self.study, self.space, self.url, folder, program)

    def _run(self, batch: int) -> None:
        """Asks for trials, runs them, and tells what became of them."""
        jobs = dict(self._ask() for _ in range(batch))
        trials = {job.number: trial for trial, job in jobs.items()}
        outcomes = self.engine.run(list(jobs.values()))
        for outcome in outcomes:
            self._outcomes[outcome.number] = outcome
            tell(self.study, self.storage, trials[outcome.number], outcome)

    def _ask(self) -> tuple[int, Job]:
        """Asks for a trial; returns its number, and the job that runs it."""
        trial = self.study.ask(self.space.distributions)
        words, number = self.space.words(trial.params), self._job_number(trial.number)
        command = [*self.engine.command.config_flags, *masked(words)]
        known = {JOB: number, FOLDER: str(self.engine.folder / str(number)), WORDS: command}
        note(self.study, self.storage, trial.number, known)
        told = {
            "storage": quoted(self.url),
            "study": quoted(self.study.study_name),
            "number": str(trial.number),
            "metric": quoted(self.study.user_attrs[OBJECTIVE]),
        }
        own = "sweep.trial={" + ",".join(f"{key}:{value}" for key, value in told.items()) + "}"
        return trial.number, Job(number=number, overrides=(*words, own))

    def _job_number(self, trial: int) -> int:
        """Returns the trial's number, or in a folder of another search the next free one."""
        own = {t.user_attrs.get(JOB, -1) for t in self.study.trials if self._is_here(t.user_attrs)}
        taken = [*own, *self._outcomes, -1]
        return trial if self._numbered_alike else max(taken) + 1

    def _is_here(self, attributes: Mapping[str, object]) -> bool:
        return Path(str(attributes.get(FOLDER))).parent == self.engine.folder

    def _known(self) -> list[Outcome]:
        """Returns the jobs as the search sees them, without those that were repeated."""
        repeated = {t.user_attrs.get(REPEATS) for t in self.study.trials if t.state.is_finished()}
        left_out = {
            trial.user_attrs[JOB]
            for trial in self.study.trials
            if trial.number in repeated
            and trial.user_attrs.get(INTERRUPTED)
            and self._is_here(trial.user_attrs)
        }
        return [
            judged(outcome)
            for number, outcome in sorted(self._outcomes.items())
            if number not in left_out
        ]
