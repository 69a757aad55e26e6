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
from forger.app.config.messages import quoted
from forger.app.run.folder import read_status, run_name
from forger.app.run.quiet import quieten_hydra
from forger.app.run.trust_overrides import trust_of
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
    """What a launcher calls for each job, with the job's config.

    Args:
        sweep: the sweep's folder.
        command: of the sweep.
        cwd: where it was given.
        launcher: name of the launcher's class.
        slots: jobs at once on this machine; `None`: the launcher divides it.
        trust: overrides by which runs of the jobs are trusted to go on; `None`: what their configs
            name is the user's.
    """

    sweep: Path
    command: Command
    cwd: Path
    launcher: str
    slots: int | None
    trust: tuple[str, ...] | None = None

    @classmethod
    def of(cls, command: Command, config: DictConfig) -> JobTask:
        """Returns the task of a sweep's jobs; `config` is that of the command as a whole."""
        launcher = config.hydra.launcher
        kind = str(launcher._target_).rpartition(".")[2]
        resumed = OmegaConf.select(config, "sweep.resume") is not None
        return cls(
            Path(str(config.hydra.sweep.dir)).absolute(),
            command,
            Path.cwd(),
            kind,
            slots_of(kind, launcher),
            tuple(trust_of(config, own=False)) if resumed else None,
        )

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
                found = run_process(
                    [*command.program, *command.arguments()],
                    environment={**share, SWEEP: self.sweep.name, NUMBER: str(number)},
                    cwd=self.cwd,
                    answer=sweep.job_file(number, "answer"),
                    output=None if self.in_turn else sweep.job_file(number, "log"),
                    is_to_end=is_to_end,
                    inherited=(lock,),
                )
                sweep.note(number, **found, seconds=earlier + time.monotonic() - began)

    def _begin(
        self, sweep: SweepFolder, number: int, folder: Path, trust: Sequence[str]
    ) -> Command:
        """Notes that a job has begun, and returns the command that runs it alone.

        A run that was broken off goes on; what never saved anything begins afresh.
        """
        task = list(HydraConfig.get().overrides.task)
        hydra = [
            override
            for override in HydraConfig.get().overrides.hydra
            if not override.lstrip("+~").startswith(_OF_THE_SWEEP)
        ]
        if is_resumable(folder):
            own = [f"resume={quoted(folder)}", *trust]
        else:
            own = task
            if (read_status(folder) or {}).get("status") in ("failed", "interrupted"):
                shutil.rmtree(folder)
                folder.mkdir()
        sweep.note(
            number,
            overrides=read_json(sweep.job_file(number)).get("overrides") or masked(task),
            folder=os.path.relpath(folder, sweep.path),
            status="running",
            reason=None,
            error=None,
            value=None,
        )
        own += [*hydra, "hydra.mode=RUN", f"hydra.run.dir={quoted(folder)}"]
        own.append(f"hydra.job.num={number}")
        return replace(self.command, overrides=tuple(own), multirun=False)


def is_resumable(folder: Path) -> bool:
    """Tells whether a run lies in the folder that has saved something and has not finished."""
    status = read_status(folder)
    saved = (folder / "config.yaml").is_file() and any((folder / "checkpoints").glob("*.ckpt"))
    return saved and status is not None and status["status"] not in ("finished", "pruned")


def run_process(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    cwd: Path,
    answer: Path,
    output: Path | None,
    is_to_end: Callable[[], bool],
    inherited: Sequence[int] = (),
) -> dict[str, Any]:
    """Runs a job's command to its end; returns its status, reason, error and value.

    Args:
        command: of one training.
        environment: variables beside those of this process.
        cwd: where the sweep was started.
        answer: file in which the process says how it ended.
        output: file that takes what the command prints; `None`: the terminal.
        is_to_end: tells whether the command is to end now, its state saved.
        inherited: descriptors that the command inherits.
    """
    answer.unlink(missing_ok=True)
    own = {key: value for key, value in os.environ.items() if not key.startswith(_OF_SLURM)}
    with nullcontext() if output is None else output.open("ab") as file:
        process = subprocess.Popen(
            command,
            env={**own, **environment, ANSWER: str(answer)},
            cwd=cwd if cwd.is_dir() else None,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=None if file is None else subprocess.STDOUT,
            pass_fds=inherited,
            start_new_session=True,  # Ctrl-C reaches it through `is_to_end` alone
        )
    try:
        _wait(process, is_to_end)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    said = read_json(answer)
    answer.unlink(missing_ok=True)
    return _outcome(said, process.returncode, output)


def _wait(process: subprocess.Popen[bytes], is_to_end: Callable[[], bool]) -> None:
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_POLL)
            return
        if is_to_end():
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE)
            return


def _outcome(said: Mapping[str, Any], code: int, output: Path | None) -> dict[str, Any]:
    """Returns how a job ended, by its answer or else by its exit code and its last line."""
    if not said:
        number = -code if code < 0 else code - 128
        name = signal.Signals(number).name if number in set(signal.Signals) else f"code {code}"
        if code < 0 and number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
            return {"status": "interrupted", "reason": f"killed by {name}"}
        return {"status": "failed", "reason": f"its process ended with {name}{_last_line(output)}"}
    kept = {name: said.get(name) for name in ("reason", "error", "value")}
    if said["code"] == 0:
        return {"status": "pruned" if said.get("error") == "Pruned" else "finished", **kept}
    return {"status": "interrupted" if said["code"] > 128 else "failed", **kept}


def _last_line(output: Path | None) -> str:
    if output is None:
        return ""
    text = output.read_bytes()[-_TAIL:].decode(errors="replace").strip()
    return f": {text.splitlines()[-1].strip()}" if text else ""


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

    Args:
        code: the exit code.
        reason: why it did not finish.
        error: class name of what it raised.
        value: the metric that `objective` names.
    """
    path = os.environ.get(ANSWER)
    if path and os.environ.get("LOCAL_RANK", "0") == "0":
        content = {"code": code, "reason": reason, "error": error, "value": value}
        write_whole(Path(path), json.dumps(content).encode())
