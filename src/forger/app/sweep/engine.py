"""Runs the jobs of a sweep through a Hydra launcher, in the sweep's folder."""

from __future__ import annotations

import logging
import shutil
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra.core.plugins import Plugins
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from forger.app.config.messages import near, quoted, setting, type_setting
from forger.app.run.folder import locked, read_status
from forger.app.sweep.folder import BAD, Job, Outcome, differing_keys
from forger.app.sweep.process import NUMBER, JobTask, jobs_at_once
from forger.app.sweep.report import line, write_report
from forger.app.sweep.resume import without_folders_elsewhere
from forger.errors import ConfigError, Interrupted
from forger.secrets import masked

log = logging.getLogger(__name__)

_POLL = 0.5  # seconds
_FINAL = ("DivergedError", "ConfigError")  # with the same overrides they would come again
_OF_RECORDS = ("sweep.resume=", "trust=", "moved=")  # overrides that are not of a job


class Engine:
    """Launches jobs, and knows what became of them.

    Args are what Hydra hands to a sweeper: `config` is that of the command as a whole.
    """

    def __init__(
        self, *, hydra_context: HydraContext, config: DictConfig, task_function: TaskFunction
    ) -> None:
        assert isinstance(task_function, JobTask)  # the cli passes one to the sweeper
        self.task = task_function
        self.folder = self.task.sweep
        self.objective: str | None = config.get("objective")
        self.minimise = True  # whether a lower score is better; a search may set it
        self.resumed = bool(OmegaConf.select(config, "sweep.resume"))
        self.parallel = self.task.slots or jobs_at_once()
        self._dry_run = bool(config.get("dry_run"))
        self._subdir = str(config.hydra.sweep._get_node("subdir"))
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=self.task, config=config
        )
        for name in ("hydra._internal.core_plugins.basic_launcher", "hydra_plugins"):
            logging.getLogger(name).setLevel(logging.WARNING)  # launchers list all jobs
        self._told: set[int] = set()
        self._jobs: Sequence[Job] = ()
        self._signal: int | None = None

    @contextmanager
    def begun(self, jobs: Sequence[Job]) -> Iterator[None]:
        """Makes the folder, refuses it to other sweeps, and records what was asked for."""
        folder = self.folder.path
        if not self.resumed and (self.folder.read() or any(folder.glob("*/status.json"))):
            raise ConfigError(
                f"hydra.sweep.dir={folder}: holds runs already; name another folder, or go on"
                f" with that sweep: {type_setting('sweep.resume', folder)}"
            )
        folder.mkdir(parents=True, exist_ok=True)
        taken = f"sweep.resume={folder}: another process runs this sweep; wait for its end"
        with locked(folder, taken):
            self.folder.begin(self.task.command, jobs, self.objective, self.minimise)
            self._jobs = jobs
            log.info("%-15s %s", "sweep folder", near(folder))
            yield
        if self._dry_run:
            self.folder.remove()

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Runs jobs to their end and returns what became of each.

        With `sweep.fail_fast`, the first failure leaves those `missing` that have not begun. If
        the user stops the sweep, running jobs save, and then `Interrupted` is raised.
        """
        waiting = list(jobs)
        if self.resumed:
            self.await_orphans()
            waiting = [job for job in jobs if not _is_over(self.folder.outcome(job))]
            self._told |= {job.number for job in jobs} - {job.number for job in waiting}
            if not waiting:
                log.info("nothing is left to do: all %d jobs have ended", len(jobs))
        with self._stopped_by_signals(), self._watching(waiting):
            try:
                for some in self._batches(waiting):
                    self._launcher.launch([self._overrides(job) for job in some], some[0].number)
                    self._tell(some)
            except Exception as error:  # of the launcher: a job tells its own in its file
                log.warning("the launcher failed: %s: %s", type(error).__name__, error)
                self.await_orphans()
        self._tell(waiting)
        if self._signal is not None:
            raise Interrupted(self._signal)
        return [self.folder.outcome(job) for job in jobs]

    def _batches(self, jobs: Sequence[Job]) -> list[Sequence[Job]]:
        """Returns the jobs to launch at a time; each alone where they run in turn.

        Hydra's basic launcher logs into the folder of the job that it runs: what is said of one
        must not fall into the next one's.
        """
        if self.task.launcher == "BasicLauncher":
            return [[job] for job in jobs]
        return [jobs] if jobs else []

    def finish(self, outcomes: Sequence[Outcome], *, complete: bool = False) -> list[Outcome]:
        """Writes the sweep's tables and pictures, prints its table, and returns the outcomes.

        If it is `complete`, going on would do nothing, though jobs may have failed.
        """
        if not self._dry_run:
            folder, command = self.folder.path, self.task.command
            width = shutil.get_terminal_size((80, 24)).columns
            print(write_report(folder, outcomes, self.objective, self.minimise, width), flush=True)
            if not complete and any(o.status in BAD and o.error not in _FINAL for o in outcomes):
                again = ("-m", setting("sweep.resume", near(folder)))
                print(f"go on with      {command.typed('train', *command.config_flags, *again)}")
        return list(outcomes)

    def _overrides(self, job: Job) -> list[str]:
        """Returns the overrides by which the launcher composes the job's config."""
        known, overrides = self.folder.outcome(job), list(job.overrides)
        if self.resumed:
            overrides = without_folders_elsewhere(overrides, self.folder.path)
        # launchers number jobs in a row, where a sweep that goes on leaves some out
        subdir = quoted(self._subdir.replace("${hydra.job.num}", str(job.number)), literal=False)
        if known.status != "missing":
            subdir = quoted(known.folder.relative_to(self.folder.path))
        number = f"+hydra.job.env_set.{NUMBER}='{job.number}'"
        return [*overrides, number, f"hydra.sweep.subdir={subdir}"]

    def await_orphans(self) -> None:
        """Waits for jobs that outlive the process that launched them."""
        for job in self.folder.outcomes().values():
            if job.status == "running":
                log.info("waiting for job #%d, which still runs", job.number)
            while self.folder.outcome(job).status == "running":
                time.sleep(_POLL)

    @contextmanager
    def _watching(self, jobs: Sequence[Job]) -> Iterator[None]:
        """Logs each job as it ends, while others run."""
        over, before = threading.Event(), {job: self.folder.outcome(job) for job in jobs}

        def watch() -> None:
            while not over.wait(_POLL):
                self._tell([job for job in jobs if self.folder.outcome(job) != before[job]])

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

        def stop(number: int, _: Any) -> None:
            self._signal = number
            self.folder.stop(signal.Signals(number).name)
            log.warning("stopping: running jobs save and end; once more ends them at once")
            put_back()

        def put_back() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            put_back()

    def _tell(self, jobs: Iterable[Job]) -> None:
        """Logs how each job ended, once."""
        keys = differing_keys(job.overrides for job in self._jobs) if self._jobs[1:] else None
        for outcome in map(self.folder.outcome, jobs):
            if outcome.number not in self._told and outcome.status not in ("missing", "running"):
                self._told.add(outcome.number)
                count = f"{len(self._told)}/{max(len(self._jobs), len(self._told))}"
                log.info("[%s] %s", count, line(outcome, keys, self.objective, self.minimise))


def _is_over(job: Outcome) -> bool:
    """Tells whether a resumed sweep leaves a job alone: what diverged would diverge again.

    What failed after its training is not trained again into the same folder.
    """
    ends = (job.status, (read_status(job.folder) or {}).get("status"))
    return "finished" in ends or job.status == "pruned" or job.error == "DivergedError"


def run_grid(engine: Engine, combinations: Sequence[Sequence[str]]) -> list[Outcome]:
    """Runs one job for each combination of overrides, and reports however the sweep ends.

    Raises:
        ConfigError: a resumed sweep's overrides now make other jobs.
    """
    jobs = []
    for number, overrides in enumerate(combinations):
        own = [one for one in overrides if not one.lstrip("+").startswith(_OF_RECORDS)]
        jobs.append(Job(number=number, overrides=tuple(own)))
    with engine.begun(jobs):
        recorded = [job["overrides"] for job in engine.folder.read()["jobs"]]
        if recorded != [masked(job.overrides) for job in jobs]:
            raise ConfigError(
                f"sweep.resume={engine.folder.path}: its overrides now make {len(jobs)} jobs where"
                f" they made {len(recorded)} others; begin a new sweep"
            )
        try:
            engine.run(jobs)
        finally:
            outcomes = engine.finish([engine.folder.outcome(job) for job in jobs])
    return outcomes
