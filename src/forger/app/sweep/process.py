"""Runs one job of a sweep as a process of its own, under every launcher."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from forger.app.config.command import Command
from forger.app.config.compose import quieten_hydra
from forger.app.config.messages import quoted
from forger.app.run.folder import read_status, run_name
from forger.app.run.resume import trust_of
from forger.app.sweep.folder import SweepFolder, read_json
from forger.app.sweep.slots import share_of, slot, slots_of
from forger.secrets import masked
from forger.whole_files import write_whole

ANSWER = "FORGER_ANSWER"  # tells a job's process the file in which to say how it ended
NUMBER = "FORGER_JOB"  # the job's number in its sweep
SWEEP = "FORGER_SWEEP"  # name of the sweep's folder
_POLL = 0.3  # seconds
_PATIENCE = 120.0  # seconds in which a job that was asked to end may save
_TAIL = 4000  # bytes of what a dead process wrote last
# By these Lightning would take the job for one of several processes that SLURM started.
_OF_SLURM = ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")
_OF_THE_SWEEP = (
    *("hydra.sweep.", "hydra.sweeper", "hydra/sweeper", "hydra.launcher", "hydra/launcher"),
    *("hydra.run.dir", "hydra.mode", f"hydra.job.env_set.{NUMBER}"),
)

quieten_hydra()  # in a launcher's process, where no command line begins
OmegaConf.register_new_resolver("run_name", run_name, replace=True)


@dataclass(frozen=True)
class JobTask:
    """What a launcher calls for each job, with the job's config."""

    sweep: Path  # the sweep's folder
    command: Command  # of the sweep
    cwd: Path  # where it was given
    launcher: str  # name of its class
    slots: int | None  # jobs at once on this machine; `None`: the launcher divides it
    # overrides by which runs of the jobs are trusted; `None`: what their configs name is the user's
    trust: tuple[str, ...] | None = None

    @classmethod
    def of(cls, command: Command, config: DictConfig) -> JobTask:
        """Returns the task of a sweep's jobs; `config` is that of the command as a whole."""
        launcher = config.hydra.launcher
        kind = str(launcher._target_).rpartition(".")[2]
        resumed = OmegaConf.select(config, "sweep.resume") is not None
        trust = tuple(trust_of(config, own=False)) if resumed else None
        sweep, slots = Path(str(config.hydra.sweep.dir)).absolute(), slots_of(kind, launcher)
        return cls(sweep, command, Path.cwd(), kind, slots, trust)

    @property
    def in_turn(self) -> bool:
        """Whether each job has the whole machine, and the terminal, for itself."""
        return self.launcher == "BasicLauncher"

    def __call__(self, cfg: DictConfig) -> None:
        """Runs the job to its end, and notes in the sweep's folder how it ended."""
        sweep, number, parent = SweepFolder(self.sweep), int(os.environ[NUMBER]), os.getppid()
        folder = Path(HydraConfig.get().runtime.output_dir).absolute()

        def is_to_end() -> bool:
            orphaned = self.launcher == "JoblibLauncher" and os.getppid() != parent
            return sweep.stopped or orphaned

        if not self.in_turn:
            with suppress(ValueError):  # not in the main thread
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sweep asks jobs to end
        with slot(sweep.jobs_folder, self.slots) if self.slots else nullcontext(0) as own:
            if is_to_end():
                sweep.remove_run_folder(folder)
                return
            with sweep.held(number) as lock:
                earlier = read_json(sweep.job_file(number)).get("seconds") or 0.0
                trust = trust_of(cfg, own=True) if self.trust is None else self.trust
                command = self._begin(sweep, number, folder, trust)
                share, began = share_of(own, self.slots or 1), time.monotonic()
                environment = {**share, SWEEP: self.sweep.name, NUMBER: str(number)}
                found = self._run(sweep, number, command, environment, is_to_end, lock)
                sweep.note(number, **found, seconds=earlier + time.monotonic() - began)

    def _begin(
        self, sweep: SweepFolder, number: int, folder: Path, trust: Sequence[str]
    ) -> Command:
        """Notes that a job has begun, and returns the command that runs it alone.

        A run that was broken off goes on; what never saved anything begins afresh.
        """
        given, status = HydraConfig.get().overrides, (read_status(folder) or {}).get("status")
        own = list(given.task)
        saved = (folder / "config.yaml").is_file() and any((folder / "checkpoints").glob("*.ckpt"))
        if saved and status not in (None, "finished", "pruned"):
            own = [f"resume={quoted(folder)}", *trust]
        elif status in ("failed", "interrupted"):
            shutil.rmtree(folder)
            folder.mkdir()
        sweep.note(
            number,
            overrides=read_json(sweep.job_file(number)).get("overrides") or masked(given.task),
            folder=os.path.relpath(folder, sweep.path),
            status="running",
            **dict.fromkeys(("reason", "error", "value")),
        )
        own += [one for one in given.hydra if not one.lstrip("+~").startswith(_OF_THE_SWEEP)]
        own += ["hydra.mode=RUN", f"hydra.run.dir={quoted(folder)}", f"hydra.job.num={number}"]
        return replace(self.command, overrides=tuple(own), multirun=False)

    def _run(
        self,
        sweep: SweepFolder,
        number: int,
        command: Command,
        environment: Mapping[str, str],
        is_to_end: Callable[[], bool],
        lock: int,
    ) -> dict[str, Any]:
        """Runs a job's command, which inherits its lock; returns how it ended, as for `note`."""
        answer = sweep.job_file(number, "answer")
        answer.unlink(missing_ok=True)
        output = None if self.in_turn else sweep.job_file(number, "log")
        own = {key: value for key, value in os.environ.items() if not key.startswith(_OF_SLURM)}
        with nullcontext() if output is None else output.open("ab") as file:
            process = subprocess.Popen(
                [*command.program, *command.arguments()],
                env={**own, **environment, ANSWER: str(answer)},
                cwd=self.cwd if self.cwd.is_dir() else None,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=None if file is None else subprocess.STDOUT,
                pass_fds=(lock,),
                start_new_session=True,  # Ctrl-C reaches it through `is_to_end` alone
            )
        try:
            while process.poll() is None and not is_to_end():
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL)
            process.terminate()  # does nothing to one that has ended
            with suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE)
        finally:
            process.kill()
            process.wait()
        said = read_json(answer)
        answer.unlink(missing_ok=True)
        return _ending(said, process.returncode, output)


def _ending(said: Mapping[str, Any], code: int, output: Path | None) -> dict[str, Any]:
    """Returns how a job ended, by its answer or else by its exit code and its last line."""
    if not said:
        number = -code if code < 0 else code - 128
        name = signal.Signals(number).name if number in set(signal.Signals) else f"code {code}"
        if code < 0 and number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
            return {"status": "interrupted", "reason": f"killed by {name}"}
        lines = b"" if output is None else output.read_bytes()[-_TAIL:]
        last = lines.decode(errors="replace").strip().rpartition("\n")[2].strip()
        return {"status": "failed", "reason": f"its process ended with {name}: {last}".rstrip(": ")}
    kept = {name: said.get(name) for name in ("reason", "error", "value")}
    if said["code"] == 0:
        return {"status": "pruned" if said.get("error") == "Pruned" else "finished", **kept}
    return {"status": "interrupted" if said["code"] > 128 else "failed", **kept}


def end_with_parent() -> None:
    """Has a job's process end, as by SIGTERM, once the one that started it is gone."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL)
        os.kill(os.getpid(), signal.SIGTERM)

    if ANSWER in os.environ and "LOCAL_RANK" not in os.environ:
        threading.Thread(target=watch, daemon=True, name="forger-parent").start()


def answer(code: int, reason: str | None, error: str | None, value: float | None) -> None:
    """Tells the sweep that started this process how its job ended; does nothing without one.

    Args are those of `cli.ending.Ending`.
    """
    path = os.environ.get(ANSWER)
    if path and os.environ.get("LOCAL_RANK", "0") == "0":
        content = {"code": code, "reason": reason, "error": error, "value": value}
        write_whole(Path(path), json.dumps(content).encode())
