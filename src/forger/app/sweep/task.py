"""What a launcher calls for each job of a sweep. Owns a job's record, whoever runs it and where.

In one process after the other (Hydra's basic launcher) it calls the script's own function; from
any other launcher it starts the script again, for that job alone.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from forger.app.cli.quiet import quieten_hydra
from forger.app.config.messages import quoted
from forger.app.run.folder import read_status, run_name
from forger.app.run.job_words import job_words, trust_of
from forger.app.sweep.child import run_child
from forger.app.sweep.places import place, share
from forger.app.sweep.record import SweepRecord, read_json
from forger.errors import Interrupted, Pruned
from forger.secrets import masked

NUMBER = "FORGER_JOB"  # set for each job: its place in the sweep
SWEEP = "FORGER_SWEEP"  # set for each job: name of the sweep's folder


quieten_hydra()  # in a launcher's process, where no command line begins
OmegaConf.register_new_resolver("run_name", run_name, replace=True)


@dataclass(frozen=True)
class SweepTask:
    """One job, as a launcher calls it with the job's config.

    Args:
        sweep: the sweep's folder.
        program: the command that starts the script again, for a job in its own process.
        flags: those of the command that say which config is meant.
        cwd: where the command was given.
        places: jobs at once on this machine; `None`: the launcher divides it.
        with_parent: whether jobs end with the process that launched them.
        trust: words by which their runs are trusted to go on; `None`: what their configs name is
            the user's.
    """

    sweep: Path
    program: tuple[str, ...]
    flags: tuple[str, ...]
    cwd: Path
    places: int | None
    with_parent: bool
    trust: tuple[str, ...] | None = None

    def __call__(self, cfg: DictConfig) -> None:
        """Runs the job in a process of its own."""
        record, number = SweepRecord(self.sweep), int(os.environ[NUMBER])
        folder = Path(HydraConfig.get().runtime.output_dir)
        parent = os.getppid()

        def ending() -> bool:
            return record.stopped or (self.with_parent and os.getppid() != parent)

        trust = trust_of(cfg, own=True) if self.trust is None else self.trust
        if self.places is None:
            self._run(record, number, folder, ending, {}, trust)
        else:
            with place(self.sweep / ".jobs", self.places) as own:
                self._run(record, number, folder, ending, share(own, self.places), trust)

    def _run(
        self,
        record: SweepRecord,
        number: int,
        folder: Path,
        ending: Callable[[], bool],
        environment: dict[str, str],
        trust: Sequence[str],
    ) -> None:
        if ending():
            remove_if_empty(folder)
            return
        with record.held(number) as lock:
            earlier = read_json(record.path_of(number)).get("seconds") or 0.0
            words = begin(record, number, folder, trust)
            began = time.monotonic()
            found = run_child(
                [*self.program, *self.flags, *words],
                environment=environment | {SWEEP: self.sweep.name, NUMBER: str(number)},
                cwd=self.cwd,
                output=record.path_of(number, "log"),
                ending=ending,
                kept_open=(lock,),
            )
            record.note(number, **found, seconds=earlier + time.monotonic() - began)


@dataclass(frozen=True)
class OwnTask:
    """One job in this process.

    Args:
        sweep: the sweep's folder.
        main: the script's function.
    """

    sweep: Path
    main: Callable[[DictConfig], Any]

    def __call__(self, cfg: DictConfig) -> None:
        """Runs the job, and keeps nothing of what it raised."""
        record, number = SweepRecord(self.sweep), int(os.environ[NUMBER])
        folder = Path(HydraConfig.get().runtime.output_dir)
        with record.held(number):
            earlier = read_json(record.path_of(number)).get("seconds") or 0.0
            begin(record, number, folder)
            began = time.monotonic()
            found: dict[str, Any] = {"status": "interrupted", "reason": None}
            try:
                found = self._run(cfg)
            except (KeyboardInterrupt, Interrupted) as error:
                cause = error.cause if isinstance(error, Interrupted) else "Ctrl-C"
                found["reason"] = f"interrupted by {cause}"
                raise
            finally:
                record.note(number, **found, seconds=earlier + time.monotonic() - began)

    def _run(self, cfg: DictConfig) -> dict[str, Any]:
        from forger.app.run.jobs import message_of
        from forger.app.sweep.isolation import give_memory_back, isolated, release

        try:
            with isolated():
                value = self.main(cfg)
        except Exception as error:
            kind, pruned = type(error).__name__, isinstance(error, Pruned)
            reason = str(error) if pruned else message_of(error) or f"{kind}: {error}"
            release(error)
            status = "pruned" if pruned else "failed"
            found: dict[str, Any] = {"status": status, "reason": reason, "error": kind}
        else:
            found = {"status": "finished", "reason": None, "error": None, "value": value}
        give_memory_back()  # once nothing holds the job's frames
        return found


def begin(record: SweepRecord, number: int, folder: Path, trust: Sequence[str] = ()) -> list[str]:
    """Notes that a job has begun, and returns the words that run it alone.

    A run that was broken off goes on, trusted as `trust` says; what never saved anything begins
    afresh.
    """
    path, words = folder.absolute(), job_words()
    known = read_json(record.path_of(number)).get("overrides")
    own = [*words, f"hydra.run.dir={quoted(path)}", f"hydra.job.num={number}"]
    if resumable(path):
        task = set(HydraConfig.get().overrides.task)
        own = [f"resume={quoted(path)}", *trust, *(word for word in own if word not in task)]
    elif (read_status(path) or {}).get("status") in ("failed", "interrupted"):
        shutil.rmtree(path)
        path.mkdir()
    record.note(
        number,
        overrides=known or masked(HydraConfig.get().overrides.task),
        folder=os.path.relpath(path, record.folder),
        status="running",
        reason=None,
        error=None,
        value=None,
    )
    return own


def resumable(folder: Path) -> bool:
    """Tells whether a run lies in the folder that has saved something and has not finished."""
    status = read_status(folder)
    saved = (folder / "config.yaml").is_file() and any((folder / "checkpoints").glob("*.ckpt"))
    return saved and status is not None and status["status"] not in ("finished", "pruned")


def remove_if_empty(folder: Path) -> None:
    """Removes the folder that Hydra made for a job which then did not begin."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
