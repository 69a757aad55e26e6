"""Runs the jobs of a sweep through a Hydra launcher. Owns their order, watching and end.

Which jobs there are is for the sweepers, what a job does for `task`, what is shown for `report`.
"""

from __future__ import annotations

import logging
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from forger.app.config.command import Command
from forger.app.config.messages import near, quoted, setting, type_setting
from forger.app.run.folder import locked, read_status
from forger.app.run.job_words import trust_of
from forger.app.sweep import report
from forger.app.sweep.outcome import BAD, Job, Outcome, ended
from forger.app.sweep.override_words import by_key, chosen, swept
from forger.app.sweep.places import describe_places, jobs_at_once, places_of
from forger.app.sweep.record import SweepRecord
from forger.app.sweep.recorded_words import without_places
from forger.app.sweep.stopping import gentle_stop
from forger.app.sweep.task import NUMBER, OwnTask, SweepTask, resumable
from forger.app.sweep.terminal_table import render
from forger.errors import ConfigError, Interrupted

log = logging.getLogger(__name__)

_POLL = 0.5  # seconds
_FINAL = ("DivergedError", "ConfigError")  # with the same words they would come again
_LAUNCHES = 3  # tries, where the launcher itself breaks
_LAUNCHERS = ("hydra._internal.core_plugins.basic_launcher", "hydra_plugins")  # they list all words


class Engine:
    """Launches jobs, and knows what became of them.

    Args:
        hydra_context: Hydra's, as sweepers get it.
        task_function: the script's function.
        config: of the command as a whole.
    """

    def __init__(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.folder = Path(str(config.hydra.sweep.dir)).absolute()
        self.record = SweepRecord(self.folder)
        self.objective: str | None = config.get("objective")
        self._dry_run = bool(config.get("dry_run"))
        self._fail_fast = bool(OmegaConf.select(config, "sweep.fail_fast"))
        self.resumed = bool(OmegaConf.select(config, "sweep.resume"))
        self._trust = trust_of(config, own=False)
        work: Any = task_function  # a Job of forger.app.cli.main
        self.command: Command = work.command
        launcher = config.hydra.launcher
        kind = str(launcher._target_).rpartition(".")[2]
        self._in_process = kind == "BasicLauncher"
        places = 1 if self._in_process else places_of(kind, launcher)
        self.parallel = places or jobs_at_once()
        self._where = describe_places(kind, places)
        task = OwnTask(self.folder, task_function) if self._in_process else self._task(kind, config)
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task, config=config
        )
        self.minimise = True  # whether a lower score is better; a search may set it
        self.judge: Callable[[Outcome], Outcome] = lambda outcome: outcome  # a search may set it
        self._told: set[int] = set()
        self._jobs: Sequence[Job] = ()
        self._signal: int | None = None
        ended.clear()

    def _task(self, kind: str, config: DictConfig) -> SweepTask:
        return SweepTask(
            self.folder,
            self.command.program,
            self.command.config_flags,
            Path.cwd(),
            places_of(kind, config.hydra.launcher),
            with_parent=kind == "JoblibLauncher",
            trust=tuple(self._trust) if self.resumed else None,
        )

    @property
    def earlier(self) -> dict[int, Outcome]:
        """What this sweep did before it was interrupted, by number; empty for a new one."""
        return self.record.outcomes() if self.resumed else {}

    @contextmanager
    def begun(self, jobs: Sequence[Job]) -> Iterator[None]:
        """Makes the folder, keeps other sweeps out of it, and records what was asked for.

        Raises:
            ConfigError: another process runs a sweep there, or there are runs of an earlier one.
        """
        if not self.resumed and (self.record.read() or any(self.folder.glob("*/status.json"))):
            raise ConfigError(
                f"hydra.sweep.dir={self.folder}: holds runs already; name another folder, or go on"
                f" with that sweep: {type_setting('sweep.resume', self.folder)}"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        taken = f"sweep.resume={self.folder}: another process runs this sweep; wait for its end"
        with locked(self.folder, taken):
            self.record.may_go_on()
            self.record.remove_pickles()
            if not self.record.read():
                command = self.command
                self.record.begin(list(command.overrides), list(command.config_flags), jobs)
            self._jobs = self.record.jobs()
            done = sum(self.record.outcome(job).status in ("finished", "pruned") for job in jobs)
            count = f"{len(jobs)}, {f'{len(jobs) - done} of them left, ' if done else ''}"
            log.info("%-15s %s%s", "jobs", count if jobs else "", self._where)
            log.info("%-15s %s", "sweep folder", near(self.folder))
            yield
        if self._dry_run:
            self.record.remove(outcome.folder for outcome in ended.values())

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
        with self._watching(waiting):
            if self._in_process:
                self._run_in_turn(waiting)
            else:
                self._run_at_once(waiting)
        outcomes = [self.record.outcome(job) for job in jobs]
        for outcome in outcomes:
            ended[outcome.number] = self.judge(outcome)
            self._tell(outcome)
        if self._signal is not None:
            raise Interrupted(self._signal)
        return outcomes

    @property
    def stopped(self) -> bool:
        """Whether no further job is to begin."""
        return self.record.stopped

    def finish(
        self, outcomes: Sequence[Outcome], *, minimise: bool = True, complete: bool = False
    ) -> None:
        """Writes the sweep's tables and pictures, and prints its table.

        Args:
            outcomes: of all its jobs.
            minimise: whether a lower score is better.
            complete: whether going on would do nothing, though jobs have failed.
        """
        self.minimise = minimise
        for outcome in outcomes:
            ended[outcome.number] = outcome
        if self._dry_run:
            return
        made = report.write(self.folder, outcomes, objective=self.objective, minimise=self.minimise)
        print(render(made, shutil.get_terminal_size((80, 24)).columns), flush=True)
        if not complete and any(o.status in BAD and o.error not in _FINAL for o in outcomes):
            flags = (*self.command.config_flags, "-m", setting("sweep.resume", near(self.folder)))
            again = self.command.typed("train", *flags)
            print(f"go on with      {again}", flush=True)

    def _is_due(self, job: Job) -> bool:
        """Tells whether a job is to run; what has diverged would diverge again.

        What failed after its training is not trained again into the same folder.
        """
        if not self.resumed:
            return True
        known = self.record.outcome(job)
        done = known.status in ("finished", "pruned") or known.error == "DivergedError"
        done = done or (read_status(known.folder) or {}).get("status") == "finished"
        if done:
            self._told.add(job.number)
        return not done

    def _run_in_turn(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if self.stopped:
                return
            log.info("#%d %s", job.number, self._label(job))
            self._launcher.launch([self._words(job)], job.number)
            self._see(job)

    def _run_at_once(self, jobs: Sequence[Job]) -> None:
        for _ in range(_LAUNCHES):
            left = [job for job in jobs if self._is_left(job)]
            if not left or self.stopped:
                return
            try:
                with gentle_stop(self._stop):
                    self._launcher.launch([self._words(job) for job in left], left[0].number)
                return
            except Exception as error:  # of the launcher: a job tells its own by its record
                log.warning("the launcher failed: %s: %s", type(error).__name__, error)
                self._await_orphans(left)

    def _is_left(self, job: Job) -> bool:
        return self.record.outcome(job).status in ("missing", "interrupted")

    def _await_orphans(self, jobs: Sequence[Job]) -> None:
        """Waits for jobs that outlive the process that launched them."""
        told = False
        while left := [job for job in jobs if self.record.outcome(job).status == "running"]:
            if not told:
                numbers = ", ".join(f"#{job.number}" for job in left)
                log.info("waiting for jobs that still run: %s", numbers)
            told = True
            time.sleep(_POLL)

    def _words(self, job: Job) -> list[str]:
        words = list(job.overrides)
        if self.resumed:
            words = without_places(words, self.folder)
        known = self.record.outcome(job)
        folder = None if known.status == "missing" else known.folder
        own = [f"+hydra.job.env_set.{NUMBER}='{job.number}'"]
        if folder is not None:
            own.append(f"hydra.sweep.subdir={quoted(folder.relative_to(self.folder))}")
            if self._in_process and resumable(folder):
                words = [f"resume={quoted(folder)}", *self._trust]
        return words + own

    @contextmanager
    def _watching(self, jobs: Sequence[Job]) -> Iterator[None]:
        """Tells of each job as it ends, while others run."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(_POLL):
                for job in jobs:
                    self._see(job)

        thread = threading.Thread(target=watch, daemon=True, name="forger-sweep")
        if not self._in_process:
            thread.start()
        try:
            yield
        finally:
            over.set()
            if thread.is_alive():
                thread.join()

    def _see(self, job: Job) -> None:
        outcome = self.record.outcome(job)
        if outcome.status not in ("missing", "running"):
            self._tell(outcome)

    def _tell(self, outcome: Outcome) -> None:
        if outcome.number in self._told or outcome.status in ("missing", "running"):
            return
        self._told.add(outcome.number)
        outcome = self.judge(outcome)
        total = max(len(self._jobs), len(self._told))
        told = len(self._told)
        log.info(
            "%s",
            report.line(
                *(outcome, told, total),
                keys=self._keys,
                objective=self.objective,
                minimise=self.minimise,
            ),
        )
        if self._fail_fast and outcome.status in BAD:
            self.record.stop(f"job #{outcome.number} {outcome.status}")

    @property
    def _keys(self) -> tuple[str, ...] | None:
        """What differs between the jobs; `None` where that is not known."""
        return swept(job.overrides for job in self._jobs) if len(self._jobs) > 1 else None

    def _label(self, job: Job) -> str:
        words = by_key(job.overrides)
        return chosen(words, words if self._keys is None else self._keys)

    def _stop(self, number: int) -> None:
        self._signal = number
        self.record.stop(signal.Signals(number).name)
