"""Runs the jobs of a sweep through a Hydra launcher, in the sweep's folder."""

from __future__ import annotations

import logging
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra.core.plugins import Plugins
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from forger.app.config.messages import near, quoted, setting, type_setting
from forger.app.run.folder import locked, read_status
from forger.app.run.trust_overrides import without_trust
from forger.app.sweep import report
from forger.app.sweep.folder import SweepFolder
from forger.app.sweep.jobs import BAD, Job, Outcome, differing_keys
from forger.app.sweep.process import NUMBER, JobTask
from forger.app.sweep.resume import without_folders_elsewhere
from forger.app.sweep.slots import jobs_at_once
from forger.errors import ConfigError, Interrupted
from forger.secrets import masked

log = logging.getLogger(__name__)

_POLL = 0.5  # seconds
_FINAL = ("DivergedError", "ConfigError")  # with the same overrides they would come again
_ATTEMPTS = 3  # of launching, where the launcher itself breaks
_LAUNCHERS = ("hydra._internal.core_plugins.basic_launcher", "hydra_plugins")  # they list all jobs


class Engine:
    """Launches jobs, and knows what became of them.

    Args:
        hydra_context: Hydra's, as sweepers get it.
        config: of the command as a whole.
        task_function: the task of the jobs, a `JobTask`.
    """

    def __init__(
        self, *, hydra_context: HydraContext, config: DictConfig, task_function: TaskFunction
    ) -> None:
        assert isinstance(task_function, JobTask)  # the cli passes one to the sweeper
        self.task = task_function
        self.folder = SweepFolder(self.task.sweep)
        self.objective: str | None = config.get("objective")
        self.minimise = True  # whether a lower score is better; a search may set it
        self.judge: Callable[[Outcome], Outcome] = lambda outcome: outcome  # a search may set it
        self.resumed = bool(OmegaConf.select(config, "sweep.resume"))
        self._dry_run = bool(config.get("dry_run"))
        self._fail_fast = bool(OmegaConf.select(config, "sweep.fail_fast"))
        self.parallel = self.task.slots or jobs_at_once()
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=self.task, config=config
        )
        self._told: set[int] = set()
        self._jobs: Sequence[Job] = ()
        self._signal: int | None = None

    @property
    def earlier(self) -> dict[int, Outcome]:
        """What this sweep did before it was interrupted, by number; empty for a new one."""
        return self.folder.outcomes() if self.resumed else {}

    @property
    def stopped(self) -> bool:
        """Whether no further job is to begin."""
        return self.folder.stopped

    @contextmanager
    def begun(self, jobs: Sequence[Job]) -> Iterator[None]:
        """Makes the folder, keeps other sweeps out of it, and records what was asked for.

        Raises:
            ConfigError: another process runs a sweep there, or there are runs of an earlier one.
        """
        folder = self.folder.path
        if not self.resumed and (self.folder.read() or any(folder.glob("*/status.json"))):
            raise ConfigError(
                f"hydra.sweep.dir={folder}: holds runs already; name another folder, or go on"
                f" with that sweep: {type_setting('sweep.resume', folder)}"
            )
        folder.mkdir(parents=True, exist_ok=True)
        taken = f"sweep.resume={folder}: another process runs this sweep; wait for its end"
        with locked(folder, taken):
            self.folder.clear_stop()
            self.folder.remove_pickles()
            if not self.folder.read():
                self.folder.begin(
                    self.task.command.overrides, list(self.task.command.config_flags), jobs
                )
            self._jobs = self.folder.jobs()
            outcomes = [self.folder.outcome(job) for job in jobs]
            done = sum(outcome.status in ("finished", "pruned") for outcome in outcomes)
            count = f"{len(jobs)}, {f'{len(jobs) - done} of them left, ' if done else ''}"
            slots = self.task.slots
            where = "as the launcher says" if slots is None else f"{slots} at a time"
            log.info("%-15s %s%s", "jobs", count if jobs else "", where)
            log.info("%-15s %s", "sweep folder", near(folder))
            yield
        if self._dry_run:
            self.folder.remove()

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Runs jobs to their end and returns what became of each.

        With `sweep.fail_fast`, the first failure leaves those `missing` that have not begun.

        Raises:
            KeyboardInterrupt, Interrupted: the user stopped the sweep; running jobs have saved.
        """
        if self.resumed:
            self._await_orphans(jobs)
        waiting = [job for job in jobs if self._is_due(job)]
        if self.resumed and not waiting:
            log.info(
                "nothing is left to do: all %d jobs have ended; for more, a new sweep", len(jobs)
            )
        for name in _LAUNCHERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        with self._stopped_by_signals():
            if self.task.in_turn:
                for job in waiting:
                    self._launch([job])
            else:
                with self._watching(waiting):
                    self._launch(waiting)
        outcomes = [self.folder.outcome(job) for job in jobs]
        for outcome in outcomes:
            self._tell(outcome)
        if self._signal is not None:
            raise Interrupted(self._signal)
        return outcomes

    def finish(self, outcomes: Sequence[Outcome], *, complete: bool = False) -> list[Outcome]:
        """Writes the sweep's tables and pictures, prints its table, and returns the outcomes.

        Args:
            outcomes: of all its jobs.
            complete: whether going on would do nothing, though jobs have failed.
        """
        if not self._dry_run:
            score: Any = {"objective": self.objective, "minimise": self.minimise}
            made = report.write(self.folder.path, outcomes, **score)
            print(made.terminal(shutil.get_terminal_size((80, 24)).columns), flush=True)
            if not complete and any(o.status in BAD and o.error not in _FINAL for o in outcomes):
                again = setting("sweep.resume", near(self.folder.path))
                command = self.task.command
                print(
                    f"go on with      {command.typed('train', *command.config_flags, '-m', again)}"
                )
        return list(outcomes)

    def _is_due(self, job: Job) -> bool:
        """Tells whether a job is to run; what has diverged would diverge again.

        What failed after its training is not trained again into the same folder.
        """
        if not self.resumed:
            return True
        known = self.folder.outcome(job)
        done = known.status in ("finished", "pruned") or known.error == "DivergedError"
        done = done or (read_status(known.folder) or {}).get("status") == "finished"
        if done:
            self._told.add(job.number)
        return not done

    def _launch(self, jobs: Sequence[Job]) -> None:
        """Runs jobs by the launcher; those that it lost, since it broke, once or twice more."""
        for _ in range(_ATTEMPTS):
            outcomes = {job: self.folder.outcome(job) for job in jobs}
            left = [job for job in jobs if outcomes[job].status in ("missing", "interrupted")]
            if not left or self.stopped:
                break
            try:
                overrides = [self._overrides(job, outcomes[job]) for job in left]
                self._launcher.launch(overrides, left[0].number)
                break
            except Exception as error:  # of the launcher: a job tells its own in its file
                log.warning("the launcher failed: %s: %s", type(error).__name__, error)
                self._await_orphans(left)
        for job in jobs:
            self._tell(self.folder.outcome(job))

    def _overrides(self, job: Job, known: Outcome) -> list[str]:
        """Returns the overrides by which the launcher composes the job's config."""
        overrides = list(job.overrides)
        if self.resumed:
            overrides = without_folders_elsewhere(overrides, self.folder.path)
        overrides.append(f"+hydra.job.env_set.{NUMBER}='{job.number}'")
        if known.status != "missing":
            subdir = known.folder.relative_to(self.folder.path)
            overrides.append(f"hydra.sweep.subdir={quoted(subdir)}")
        return overrides

    def _await_orphans(self, jobs: Sequence[Job]) -> None:
        """Waits for jobs that outlive the process that launched them."""
        told = False
        while left := [job for job in jobs if self.folder.outcome(job).status == "running"]:
            if not told:
                numbers = ", ".join(f"#{job.number}" for job in left)
                log.info("waiting for jobs that still run: %s", numbers)
            told = True
            time.sleep(_POLL)

    @contextmanager
    def _watching(self, jobs: Sequence[Job]) -> Iterator[None]:
        """Tells of each job as it ends, while others run."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(_POLL):
                for job in jobs:
                    self._tell(self.folder.outcome(job))

        thread = threading.Thread(target=watch, daemon=True, name="forger-sweep")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    @contextmanager
    def _stopped_by_signals(self) -> Iterator[None]:
        """Has the first Ctrl-C or SIGTERM ask the jobs to save and end; a second one ends all."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def put_back() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        def stop(number: int, _: Any) -> None:
            self._signal = number
            self.folder.stop(signal.Signals(number).name)
            log.warning("stopping: running jobs save and end; once more ends them at once")
            put_back()

        for number in before:
            signal.signal(number, stop)
        try:
            yield
        finally:
            put_back()

    def _tell(self, outcome: Outcome) -> None:
        """Logs how a job ended, once."""
        if outcome.number in self._told or outcome.status in ("missing", "running"):
            return
        self._told.add(outcome.number)
        outcome = self.judge(outcome)
        keys = differing_keys(job.overrides for job in self._jobs) if self._jobs[1:] else None
        count = f"{len(self._told)}/{max(len(self._jobs), len(self._told))}"
        score: Any = {"objective": self.objective, "minimise": self.minimise}
        log.info("%s", report.line(outcome, count, keys=keys, **score))
        if self._fail_fast and outcome.status in BAD:
            self.folder.stop(f"job #{outcome.number} {outcome.status}")


def run_grid(engine: Engine, combinations: Sequence[Sequence[str]]) -> list[Outcome]:
    """Runs one job for each combination of overrides, and reports however the sweep ends.

    Raises:
        ConfigError: a resumed sweep's overrides now make other jobs.
        KeyboardInterrupt, Interrupted: the user stopped it.
    """
    jobs = [
        Job(number=number, overrides=tuple(without_trust(overrides)))
        for number, overrides in enumerate(combinations)
    ]
    with engine.begun(jobs):
        recorded = engine.folder.jobs()
        if [list(job.overrides) for job in recorded] != [masked(job.overrides) for job in jobs]:
            raise ConfigError(
                f"sweep.resume={engine.folder.path}: its overrides now make {len(jobs)} jobs where"
                f" they made {len(recorded)} others; begin a new sweep"
            )
        try:
            engine.run(jobs)
        finally:
            outcomes = engine.finish([engine.folder.outcome(job) for job in jobs])
    return outcomes
