"""What the processes of one run agree on before it begins: the command, its folder and its seed.

Only rank 0 writes into the folder of the run, which the other machines need not see.
"""

from __future__ import annotations

import json
import secrets
import sys
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from forger.app.config.command import Command
from forger.app.config.compose import compose_checked
from forger.app.config.device_rules import processes_per_machine
from forger.app.config.messages import listed, quoted
from forger.app.distributed.local import ProcessFailedError, run_processes
from forger.app.distributed.rendezvous import Rendezvous
from forger.app.run import resume
from forger.app.run.folder import read_status
from forger.checkpoints import FOLDER, LAST, PREVIOUS
from forger.errors import ConfigError, UserError
from forger.processes import Process, slurm_job, this_process, was_requeued
from forger.whole_files import write_json

_PER_MACHINE = ("data.root", "data.cache_dir", "paths.cache_dir")  # what may differ
_FOLDER = "folder"  # of the run, for torchrun's restarts


@dataclass(frozen=True)
class Agreed:
    """What a process is to do.

    Attributes:
        command: to carry out.
        config: of it, Hydra's part with it.
        met: the other processes; `None`: there are none.
    """

    command: Command
    config: DictConfig
    met: Rendezvous | None = None


def local_processes(agreed: Agreed) -> int:
    """Returns how many processes of this machine a command is to start for its run."""
    if agreed.command.script != "train" or agreed.config.dry_run:
        return 1
    trainer: Any = OmegaConf.to_container(agreed.config.trainer, resolve=True)
    return processes_per_machine(trainer) or 1


def run_in_processes(agreed: Agreed, count: int) -> None:
    """Runs a command as several processes of this machine; in the end the run's status is right.

    Raises:
        ProcessFailedError: one of them failed.
        Interrupted: a signal ended them.
    """
    command, folder = agreed.command, Path(agreed.config.hydra.run.dir).absolute()
    if agreed.config.resume is None:
        seed = agreed.config.seed
        drawn = f"seed={secrets.randbelow(2**32) if seed is None else seed}"
        kept = [one for one in command.overrides if _key(one) != "seed"]
        own = (*kept, drawn, f"hydra.run.dir={quoted(folder)}")
        command = replace(command, overrides=own)
    try:
        run_processes([*command.program, *command.arguments()], count)
    except ProcessFailedError as failed:
        status = read_status(folder)
        if status is not None and status["status"] != "finished":
            write_json(folder / "status.json", status | {"status": "failed", "reason": str(failed)})
        raise


def agree(command: Command) -> Agreed | None:
    """Lets all processes of a run do the same: the same command, folder and seed.

    Args:
        command: as typed.

    Returns:
        What this process is to do; `None`: there are no others.

    Raises:
        ConfigError: in rank 0, which tells what is wrong anywhere.
        SystemExit: in another process, which has nothing to add; or the run is finished.
    """
    own = this_process() if command.script == "train" else None
    if own is None or (command.multirun and own.count == 1):
        return None
    if command.multirun and own.local_rank == 0:
        raise ConfigError("-m: starts many runs, and processes launched together train one")
    if command.multirun:
        raise SystemExit(ConfigError.exit_code)
    return _lead(own, command) if own.rank == 0 else _follow(own, command)


def _prepare(command: Command) -> tuple[Command, DictConfig]:
    """Checks a command; returns that of a run that goes on, and its config."""
    return resume.prepare(command) if command.resumes else (command, compose_checked(command))


def _lead(own: Process, command: Command) -> Agreed:
    prepared, config = _prepare(command)  # first, since it takes no torch
    met = Rendezvous(own) if own.by == "torchrun" or own.count > 1 else None
    job, folder = slurm_job(command.overrides), Path(config.hydra.run.dir).absolute()
    earlier = _earlier(met, job, folder.parent)
    finished = earlier is not None and (read_status(earlier) or {}).get("status") == "finished"
    folder = earlier or folder
    plan = {
        "typed": command.overrides,
        "restart": earlier is not None,
        "folder": None if finished else str(folder),
        "seed": secrets.randbelow(2**32) if config.seed is None else config.seed,
        "checkpoint": _checkpoint(folder),
    }
    complaints = [] if met is None else met.propose(plan)
    try:
        if complaints:
            raise ConfigError(listed(complaints))
        agreed = _carried_out(plan, command, Agreed(prepared, config, met))
    except UserError:
        if met is not None:
            met.decide(go=False)
        raise
    if met is not None:
        with suppress(OSError):  # Hydra will say so
            folder.mkdir(parents=True, exist_ok=True)  # by which others see whether it is theirs
        met.write(_FOLDER, str(folder))
        met.decide(go=True)
    return agreed


def _follow(own: Process, command: Command) -> Agreed:
    prepared: tuple[Command, DictConfig] | None = None
    complaint: str | None = None
    try:
        prepared = _prepare(command)
    except ConfigError as error:
        complaint = str(error)
        _say(own, error)  # now: rank 0, which finds the same, may be gone soon
    try:
        met = Rendezvous(own)
        plan = met.plan()
        complaint = complaint or _difference(plan, command.overrides) or _unlike(plan)
        may_go = met.answer(complaint)
    except (UserError, RuntimeError) as error:
        if prepared is not None:
            _say(own, error)
        raise SystemExit(ConfigError.exit_code) from None
    if not may_go or prepared is None:
        raise SystemExit(ConfigError.exit_code)
    agreed = _carried_out(plan, command, Agreed(*prepared, met))
    agreed.config.hydra.job_logging.root.handlers = ["console"]
    return agreed


def _carried_out(plan: dict[str, Any], command: Command, own: Agreed) -> Agreed:
    """Returns what a process has prepared, made what the plan says.

    Raises:
        ConfigError: the run cannot go on.
        SystemExit: the run is finished.
    """
    if plan["folder"] is None:
        raise SystemExit(0)
    if plan["restart"]:  # the run's own config says all
        kept = [one for one in command.overrides if _key(one) in _PER_MACHINE]
        config = OmegaConf.masked_copy(
            own.config, [str(key) for key in own.config if key != "hydra"]
        )
        again = replace(command, overrides=(*kept, *resume.trust_of(config, own=True)))
        again, config = resume.prepare(resume.command_for(Path(plan["folder"]), again))
        return replace(own, command=again, config=config)
    own.config.hydra.run.dir = plan["folder"]
    own.config.seed = plan["seed"]
    return own


def _earlier(met: Rendezvous | None, job: str | None, runs: Path) -> Path | None:
    """Returns the folder of this very run, where torchrun or SLURM starts it once more."""
    told = met.read(_FOLDER) if met is not None else None
    if told is not None and (Path(told) / "config.yaml").is_file():
        return Path(told)
    if job is None or not was_requeued():
        return None
    found = []
    for path in runs.glob("*/environment.json"):
        with suppress(OSError, ValueError):
            if json.loads(path.read_text()).get("job") == job:
                found.append(path.parent)
    return max(found, default=None, key=lambda run: (read_status(run) or {}).get("started", ""))


def _difference(plan: dict[str, Any], typed: Sequence[str]) -> str | None:
    """Says where the command is another than rank 0's."""
    here, there = (
        [one for one in overrides if _key(one) not in _PER_MACHINE]
        for overrides in (typed, plan["typed"])
    )
    if sorted(here) == sorted(there):
        return None
    own = " ".join(one for one in here if one not in there) or "nothing"
    other = " ".join(one for one in there if one not in here) or "nothing"
    return f"was started with {own} where rank 0 has {other}; type the same on every machine"


def _unlike(plan: dict[str, Any]) -> str | None:
    """Says that the run goes on from a checkpoint that this machine does not see."""
    seen = plan["folder"] and _checkpoint(Path(plan["folder"]))
    if plan["checkpoint"] in (None, seen):
        return None
    return (
        f"resume={plan['folder']}: does not see the checkpoint that rank 0 sees; put paths.log_dir"
        " on a file system that all machines share, or copy the folder to each of them"
    )


def _checkpoint(folder: Path) -> str | None:
    """Tells a run's checkpoint from others, by the checksums in it; `None`: there is none."""
    for name in (LAST, PREVIOUS):
        with suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(folder / FOLDER / name) as file:
            return sha256(repr([part.CRC for part in file.infolist()]).encode()).hexdigest()[:16]
    return None


def _say(own: Process, error: Exception) -> None:
    if own.speaks:
        print(f"error: rank {own.rank}: {error}", file=sys.stderr, flush=True)


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")
