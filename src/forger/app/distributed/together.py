"""One run of processes launched from outside: its folder, its seed, and one voice for all.

Owns what they agree on before Hydra begins; `forger.app.distributed.meeting` carries their
messages.
Only rank 0 writes into the folder of the run, which the other machines need not see.
"""

from __future__ import annotations

import atexit
import json
import secrets
import sys
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from forger.app.config.command import Command
from forger.app.config.messages import listed, quoted
from forger.app.config.words import words_for_hydra
from forger.app.distributed import launched
from forger.app.distributed.meeting import Meeting
from forger.app.run import resume
from forger.app.run.folder import read_status
from forger.app.run.job_words import trust_of
from forger.checkpoints import FOLDER, LAST, PREVIOUS
from forger.errors import ConfigError, UserError

_PER_MACHINE = ("data.root", "data.cache_dir", "paths.cache_dir")  # what may differ
_FOLDER = "folder"  # of the run, for torchrun's restarts

Check = Callable[[Command], Command]


def settle(command: Command, check: Check) -> Command:
    """Checks a command as `check` does, for all processes that were launched with it.

    Returns the command to carry out here: with the same folder and seed in every process.

    Args:
        command: what was typed.
        check: refuses mistakes, and returns the command of a run that goes on.

    Raises:
        ConfigError: rank 0 tells what is wrong anywhere.
        SystemExit: in another process, which has nothing to add; or the run is finished.
    """
    own = launched.launch() if command.script == "train" else None
    if own is None or (own.processes == 1 and command.multirun):
        return check(command)
    if command.multirun and own.local_rank == 0:
        raise ConfigError("-m: starts many runs, and processes launched together train one")
    if command.multirun:
        raise SystemExit(ConfigError.exit_code)
    return _lead(own, command, check) if own.rank == 0 else _follow(own, command, check)


def _lead(own: launched.Launch, command: Command, check: Check) -> Command:
    checked = check(command)  # first, since it takes no torch
    met = Meeting.of(own) if own.by == "torchrun" or own.processes > 1 else None
    earlier = _earlier(met, command)
    plan: dict[str, Any] = {"typed": command.overrides, "restart": earlier is not None}
    plan["seed"] = None
    if earlier is not None and (read_status(earlier) or {}).get("status") == "finished":
        plan["folder"] = None
    elif earlier is not None:
        plan["folder"] = str(earlier)
    elif resume.wanted(checked.overrides) is not None:
        plan["folder"] = resume.wanted(checked.overrides)
    else:
        folder, seed = _composed(command)
        plan["folder"] = str(folder)
        plan["seed"] = secrets.randbelow(2**32) if seed is None else None
    plan["mark"] = None if plan["folder"] is None else _mark(Path(plan["folder"]))
    complaints = [] if met is None else met.lead(plan)
    try:
        if complaints:
            raise ConfigError(listed(complaints))
        taken = _taken(plan, command)
    except UserError:
        if met is not None:
            met.decide(go=False)
        raise
    if met is not None:
        with suppress(OSError):  # Hydra will say so
            Path(plan["folder"]).mkdir(parents=True, exist_ok=True)  # see `_leave_nothing`
        met.write(_FOLDER, plan["folder"])
        met.decide(go=True)
    return taken


def _follow(own: launched.Launch, command: Command, check: Check) -> Command:
    refused = None
    try:
        check(command)
    except ConfigError as error:
        refused = error
        _say_elsewhere(own, error)  # now: rank 0, which finds the same, may be gone soon
    try:
        met = Meeting.of(own)
        plan = met.plan()
        complaint = str(refused) if refused is not None else _differs(plan, command.overrides)
        if complaint is None and plan["folder"] is not None:
            complaint = _unlike(plan)
        may_go = met.answer(complaint)
    except (UserError, RuntimeError) as error:
        if refused is None:
            _say_elsewhere(own, error)
        raise SystemExit(ConfigError.exit_code) from None
    if not may_go:
        raise SystemExit(ConfigError.exit_code)
    taken = _taken(plan, command)
    if not Path(plan["folder"]).is_dir():  # rank 0 has made it: this is another file system
        atexit.register(_leave_nothing, Path(plan["folder"]))
    return taken


def _taken(plan: dict[str, Any], command: Command) -> Command:
    """Returns the command that the plan makes of what was typed.

    Raises:
        ConfigError: the run cannot go on.
        SystemExit: the run is finished.
    """
    if plan["folder"] is None:
        raise SystemExit(0)
    folder = Path(plan["folder"])
    if plan["restart"]:  # its own config says all
        kept = [word for word in command.overrides if _key(word) in _PER_MACHINE]
        kept += trust_of(_compose(command), own=True)
        again = replace(command, overrides=tuple(kept))
        if problems := resume.find_mistakes(again, folder):
            raise ConfigError(listed(problems))
        taken = resume.command_for(folder, again)
    elif resume.wanted(command.overrides) is not None:
        taken = resume.command_for(folder, command)
    else:
        drawn = plan["seed"] is not None
        words = [word for word in command.overrides if not drawn or _key(word) != "seed"]
        words += [f"seed={plan['seed']}"] if drawn else []
        taken = replace(command, overrides=(*words, f"hydra.run.dir={quoted(folder)}"))
    if launched.rank() == 0:
        return taken
    console = "hydra.job_logging.root.handlers=[console]"
    return replace(taken, overrides=(*taken.overrides, console))


def _earlier(met: Meeting | None, command: Command) -> Path | None:
    """Returns the folder of this very run, where torchrun or SLURM starts it once more."""
    job = launched.name_job(list(command.overrides))
    told = met.read(_FOLDER) if met is not None else None
    if told is not None and (Path(told) / "config.yaml").is_file():
        return Path(told)
    if job is None or not launched.requeued():
        return None
    found = []
    for path in _composed(command)[0].parent.glob("*/environment.json"):
        with suppress(OSError, ValueError):
            if json.loads(path.read_text()).get("job") == job:
                found.append(path.parent)
    return max(found, default=None, key=lambda run: (read_status(run) or {}).get("started", ""))


def _composed(command: Command) -> tuple[Path, int | None]:
    """Returns the folder that Hydra would make now, and the seed."""
    cfg = _compose(command, return_hydra_config=True)
    return Path(cfg.hydra.run.dir).absolute(), cfg.seed


def _compose(command: Command, return_hydra_config: bool = False) -> DictConfig:
    words = words_for_hydra(command)
    if command.extra_config_dir is not None:
        words = [*words, f"hydra.searchpath=[{quoted(Path(command.extra_config_dir).absolute())}]"]
    with initialize_config_dir(
        str(command.config_dir), job_name=command.script, version_base="1.3"
    ):
        return compose(
            command.config_name, overrides=words, return_hydra_config=return_hydra_config
        )


def _differs(plan: dict[str, Any], typed: Sequence[str]) -> str | None:
    """Says where the command is another than rank 0's."""
    here, there = (
        [word for word in words if _key(word) not in _PER_MACHINE]
        for words in (typed, plan["typed"])
    )
    if sorted(here) == sorted(there):
        return None
    own = " ".join(word for word in here if word not in there) or "nothing"
    other = " ".join(word for word in there if word not in here) or "nothing"
    return f"was started with {own} where rank 0 has {other}; type the same on every machine"


def _unlike(plan: dict[str, Any]) -> str | None:
    """Says that the run goes on from a checkpoint that this machine does not see."""
    if _mark(Path(plan["folder"])) == plan["mark"] or plan["mark"] is None:
        return None
    return (
        f"resume={plan['folder']}: does not see the checkpoint that rank 0 sees; put paths.log_dir"
        " on a file system that all machines share, or copy the folder to each of them"
    )


def _mark(folder: Path) -> str | None:
    """Tells a run's checkpoint from others, by the checksums in it; `None`: there is none."""
    for name in (LAST, PREVIOUS):
        with suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(folder / FOLDER / name) as file:
            return sha256(repr([part.CRC for part in file.infolist()]).encode()).hexdigest()[:16]
    return None


def _say_elsewhere(own: launched.Launch, error: Exception) -> None:
    if own.speaks:
        print(f"error: rank {own.rank}: {error}", file=sys.stderr, flush=True)


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def _leave_nothing(folder: Path) -> None:
    """Removes the empty folder that Hydra made here; rank 0's is on another file system."""
    with suppress(OSError):  # another process of this machine was faster
        folder.rmdir()
        folder.parent.rmdir()
