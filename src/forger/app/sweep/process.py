"""Runs one job of a sweep as a process of its own, on its share of the machine."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from forger import hardware
from forger.app.config.command import Command
from forger.app.config.compose import quieten_hydra
from forger.app.config.messages import quoted
from forger.app.run.folder import read_status, run_name
from forger.app.run.resume import trust_of
from forger.app.sweep.folder import BAD, Job, SweepFolder, read_json
from forger.processes import CORES, SWEEP
from forger.secrets import masked
from forger.whole_files import write_json

# Variables by which a job's process is told
ANSWER = "FORGER_ANSWER"  # the file in which to say how it ended
NUMBER = "FORGER_JOB"  # the job's number in its sweep
_POLL = 0.3  # seconds
_PATIENCE = 120.0  # seconds in which a job that was asked to end may save
# By these Lightning would take the job for one of several processes that SLURM started.
_OF_SLURM = ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")
_OF_THE_SWEEP = (
    *("hydra.sweep.", "hydra.sweeper", "hydra/sweeper", "hydra.launcher", "hydra/launcher"),
    *("hydra.run.dir", "hydra.mode", f"hydra.job.env_set.{NUMBER}"),
)

quieten_hydra()  # in a launcher's process, where no command line begins
OmegaConf.register_new_resolver("run_name", run_name, replace=True)


class JobTask:
    """What a launcher calls for each job, with the job's config.

    Args:
        command: of the sweep.
        config: of the command as a whole.
    """

    def __init__(self, command: Command, config: DictConfig) -> None:
        kind = str(config.hydra.launcher._target_).rpartition(".")[2]
        own = OmegaConf.select(config, "sweep") or {}
        self.sweep = SweepFolder(Path(str(config.hydra.sweep.dir)).absolute())
        self.command, self.cwd, self.launcher = command, Path.cwd(), kind
        self.slots = slots_of(kind, config.hydra.launcher)
        self.fail_fast = bool(own.get("fail_fast"))
        # overrides by which runs of a record are trusted; `None`: what jobs name is the user's
        self.trust = trust_of(config, own=False) if own.get("resume") is not None else None

    def __call__(self, cfg: DictConfig) -> None:
        """Runs the job to its end, and notes in the sweep's folder how it ended."""
        number, parent, task = int(os.environ[NUMBER]), os.getppid(), HydraConfig.get()
        folder, overrides = Path(task.runtime.output_dir).absolute(), tuple(task.overrides.task)

        def is_to_end() -> bool:
            orphaned = self.launcher == "JoblibLauncher" and os.getppid() != parent
            return self.sweep.stopped or orphaned

        if self.launcher != "BasicLauncher":
            with suppress(ValueError):  # not in the main thread
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sweep asks jobs to end
        with slot(self.sweep.jobs_folder, self.slots) as own:
            if is_to_end():
                if folder.is_dir() and all(path.suffix == ".log" for path in folder.iterdir()):
                    shutil.rmtree(folder)
                return
            with self.sweep.held(number) as lock:
                earlier = read_json(self.sweep.job_file(number))
                command = self._begin(cfg, folder, earlier)
                share = share_of(own, self.slots or 1)
                environment = share | {SWEEP: self.sweep.path.name, NUMBER: str(number)}
                began = time.monotonic() - (earlier.get("seconds") or 0.0)
                found = self._run(number, command, environment, is_to_end, lock)
                self.sweep.note(number, **found, seconds=time.monotonic() - began)
            status = self.sweep.outcome(Job(number=number, overrides=overrides)).status
            if self.fail_fast and status in BAD:
                self.sweep.stop(f"job #{number} {status}")

    def _begin(self, cfg: DictConfig, folder: Path, earlier: Mapping[str, Any]) -> Command:
        """Notes that a job has begun, and returns the command that runs it alone.

        A run that was broken off goes on; what never saved anything begins afresh.
        """
        number, given = int(os.environ[NUMBER]), HydraConfig.get().overrides
        own, status = list(given.task), (read_status(folder) or {}).get("status")
        saved = (folder / "config.yaml").is_file() and any((folder / "checkpoints").glob("*.ckpt"))
        if saved and status not in (None, "finished", "pruned"):
            trust = trust_of(cfg, own=True) if self.trust is None else self.trust
            own = [f"resume={quoted(folder)}", *trust]
        elif status in ("failed", "interrupted"):
            shutil.rmtree(folder)
            folder.mkdir()
        self.sweep.note(
            number,
            overrides=earlier.get("overrides") or masked(given.task),
            folder=os.path.relpath(folder, self.sweep.path),
            status="running",
            **dict.fromkeys(("reason", "error", "value")),
        )
        own += [one for one in given.hydra if not one.lstrip("+~").startswith(_OF_THE_SWEEP)]
        own += ["hydra.mode=RUN", f"hydra.run.dir={quoted(folder)}", f"hydra.job.num={number}"]
        return replace(self.command, overrides=tuple(own), multirun=False)

    def _run(
        self,
        number: int,
        command: Command,
        environment: Mapping[str, str],
        is_to_end: Callable[[], bool],
        lock: int,
    ) -> dict[str, Any]:
        """Runs a job's command, which inherits its lock; returns how it ended, as for `note`."""
        answer = self.sweep.job_file(number, "answer")
        answer.unlink(missing_ok=True)
        own = {key: value for key, value in os.environ.items() if not key.startswith(_OF_SLURM)}
        on_screen = self.launcher == "BasicLauncher"
        with nullcontext() if on_screen else self.sweep.job_file(number, "log").open("ab") as file:
            process = subprocess.Popen(
                [*command.program, *command.arguments()],
                env={**own, **environment, ANSWER: str(answer)},
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=None if on_screen else subprocess.STDOUT,
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
        return _ending(said, process.returncode)


def _ending(said: Mapping[str, Any], code: int) -> dict[str, Any]:
    """Returns how a job ended, by its answer or, where it could give none, by its exit code."""
    if said:
        kept = {name: said.get(name) for name in ("reason", "error", "value")}
        ended = "interrupted" if said["code"] > 128 else "failed"
        if said["code"] == 0:
            ended = "pruned" if said.get("error") == "Pruned" else "finished"
        return {"status": ended, **kept}
    if code in (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT):
        return {"status": "interrupted", "reason": f"killed by {signal.Signals(-code).name}"}
    return {"status": "failed", "reason": f"its process ended with exit code {code}"}


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
    """Tells the sweep that started this process, if any, how its job ended, see `Ending`."""
    path = os.environ.get(ANSWER)
    if path and os.environ.get("LOCAL_RANK", "0") == "0":
        write_json(Path(path), {"code": code, "reason": reason, "error": error, "value": value})


def jobs_at_once() -> int:
    """Returns how many jobs suit this machine: one on each GPU, or on each core.

    A job takes about a gigabyte of memory; two are reckoned with.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**31
    return hardware.gpu_count() or max(1, min(hardware.core_count(), memory))


def slots_of(kind: str, launcher: Mapping[str, Any]) -> int | None:
    """Returns how many jobs a launcher runs at once on this machine; `None`: it divides machines.

    `kind` is the name of its class, and `launcher` its config.
    """
    if kind == "BasicLauncher":
        return 1
    if kind == "JoblibLauncher":
        wanted = int(launcher["n_jobs"])
        return wanted if wanted > 0 else max(1, hardware.core_count() + 1 + wanted)
    if kind == "LocalLauncher":  # submitit's starts all jobs at once
        each = int(launcher.get("cpus_per_task") or 1)
        return hardware.gpu_count() or max(1, hardware.core_count() // each)
    return None


@contextmanager
def slot(folder: Path, count: int | None) -> Iterator[int]:
    """Waits for one of `count` slots among the processes of this machine that name `folder`.

    Yields its number, from 0. A lock on a file holds it, which ends with its process.
    """
    while count is not None:
        for number in range(count):
            with (folder / f"slot_{number}").open("a") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                except OSError:  # a file system without locks
                    pass
                yield number
                return
        time.sleep(_POLL)
    yield 0


def share_of(number: int, count: int) -> dict[str, str]:
    """Returns the environment of a job in one of `count` slots: its threads and its GPU.

    The only slot is the whole machine. What the user set for threads stays.
    """
    if count == 1:
        return {}
    own = str(max(1, hardware.core_count() // count))
    environment = {CORES: own, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", own)}
    if gpus := hardware.visible_gpus():
        environment["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    return environment
