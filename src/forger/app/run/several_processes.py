"""What the processes of one run agree on before it begins: the command, its folder and its seed.

Only rank 0 writes into the folder of the run, which the other machines need not see.
"""

from __future__ import annotations

import json
import secrets
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
from forger.app.distributed.rendezvous import GONE, Rendezvous
from forger.app.distributed.watch import OtherProcessError
from forger.app.run import resume
from forger.app.run.folder import read_status
from forger.checkpoints import FOLDER, LAST, PREVIOUS
from forger.errors import ConfigError, RunError, UserError
from forger.processes import Process, slurm_job, this_process, was_requeued
from forger.whole_files import write_json

_PER_MACHINE = ("data.root", "data.cache_dir", "paths.cache_dir")  # what may differ


@dataclass(frozen=True)
class Agreed:
    """A command to carry out, its config with Hydra's part, and the other processes, if any."""

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
    """Runs a command as several processes of this machine; in the end the run's status is right."""
    command, folder = agreed.command, Path(agreed.config.hydra.run.dir).absolute()
    if agreed.config.resume is None:
        seed = _seed(agreed.config)
        kept = [one for one in command.overrides if _key(one) != "seed"]
        own = (*kept, f"seed={seed}", f"hydra.run.dir={quoted(folder)}")
        command = replace(command, overrides=own)
    try:
        run_processes([*command.program, *command.arguments()], count)
    except ProcessFailedError as failed:
        status = read_status(folder)
        if status is not None and status["status"] != "finished":
            write_json(folder / "status.json", status | {"status": "failed", "reason": str(failed)})
        raise


def agree(command: Command) -> Agreed | None:
    """Lets all processes of a run do the same, in one folder, by one seed; `None` if alone.

    Rank 0 raises a `ConfigError`, which tells what is wrong anywhere; the others, and all of a run
    that is finished, end by `SystemExit`.
    """
    own = this_process() if command.script == "train" else None
    if own is None or (command.multirun and own.count == 1):
        return None
    if command.multirun:
        raise ConfigError("-m: starts many runs, and processes launched together train one")
    agreed = _lead(own, command) if own.rank == 0 else _follow(own, command)
    if agreed is None:
        raise SystemExit(0)
    return agreed


def _prepare(command: Command) -> Agreed:
    if command.resumes:
        return Agreed(*resume.prepare(command))
    return Agreed(command, compose_checked(command))


def _lead(own: Process, command: Command) -> Agreed | None:
    """Decides for all; returns what to do, `None` where the run is finished."""
    prepared = _prepare(command)  # first, since it takes no torch
    met = Rendezvous(own) if own.by == "torchrun" or own.count > 1 else None
    folder = Path(prepared.config.hydra.run.dir).absolute()
    earlier = _earlier(met, slurm_job(command.overrides), folder.parent)
    folder = earlier or folder
    plan = {
        "typed": command.overrides,
        "restart": earlier is not None,
        "finished": earlier is not None
        and (read_status(earlier) or {}).get("status") == "finished",
        "folder": str(folder),
        "seed": _seed(prepared.config),
        "checkpoint": _checkpoint(folder),
    }
    if met is None:
        return _carried_out(plan, command, prepared)
    try:
        if complaints := met.propose(plan):
            raise ConfigError(listed(complaints))
        agreed = _carried_out(plan, command, replace(prepared, met=met))
    except UserError:
        met.decide(go=False)
        raise
    with suppress(OSError):  # Hydra will say so
        folder.mkdir(parents=True, exist_ok=True)  # by which others see whether it is theirs
    met.write("folder", str(folder))
    met.decide(go=True)
    return agreed


def _follow(own: Process, command: Command) -> Agreed | None:
    """Does as rank 0 says, or tells it what is wrong here."""
    prepared: Agreed | None = None
    complaint: str | None = None
    try:
        prepared = _prepare(command)
    except ConfigError as error:
        complaint = str(error)
    try:
        met = Rendezvous(own)
        plan = met.plan()
        complaint = complaint or _complaint(plan, command.overrides)
        may_go = met.answer(complaint)
    except (RunError, RuntimeError) as error:  # rank 0 may have found the same
        raise ConfigError(complaint) if complaint else OtherProcessError(GONE) from error
    if not may_go or prepared is None:
        raise SystemExit(ConfigError.exit_code)
    agreed = _carried_out(plan, command, replace(prepared, met=met))
    if agreed is not None:
        agreed.config.hydra.job_logging.root.handlers = ["console"]
    return agreed


def _carried_out(plan: dict[str, Any], command: Command, own: Agreed) -> Agreed | None:
    """Returns what a process has prepared, made what the plan says."""
    if plan["finished"]:
        return None
    if plan["restart"]:  # the run's own config says all
        kept = [one for one in command.overrides if _key(one) in _PER_MACHINE]
        config = OmegaConf.masked_copy(own.config, [str(k) for k in own.config if k != "hydra"])
        again = replace(command, overrides=(*kept, *resume.trust_of(config, own=True)))
        again, config = resume.prepare(resume.command_for(Path(plan["folder"]), again))
        return replace(own, command=again, config=config)
    own.config.hydra.run.dir = plan["folder"]
    own.config.seed = plan["seed"]
    return own


def _seed(config: DictConfig) -> int:
    return secrets.randbelow(2**32) if config.seed is None else int(config.seed)


def _earlier(met: Rendezvous | None, job: str | None, runs: Path) -> Path | None:
    """Returns the folder of this very run, where torchrun or SLURM starts it once more."""
    told = met.read("folder") if met is not None else None
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


def _complaint(plan: dict[str, Any], typed: Sequence[str]) -> str | None:
    """Says where the command is another than rank 0's, or that its checkpoint is not seen here."""
    here, there = (
        {one for one in overrides if _key(one) not in _PER_MACHINE}
        for overrides in (typed, plan["typed"])
    )
    if here != there:
        own, other = (" ".join(sorted(one)) or "nothing" for one in (here - there, there - here))
        return f"was started with {own} where rank 0 has {other}; type the same on every machine"
    if plan["checkpoint"] in (None, _checkpoint(Path(plan["folder"]))):
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


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")
