"""A sweep that goes on: the command that `sweep.resume=<folder>` stands for.

Owns what may be written beside it. Imports neither torch nor anything that does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from forger.errors import ConfigError
from forger.runs.job_words import quoted
from forger.runs.sweeps.record import SweepRecord

_KEY = "sweep.resume"
_LAUNCHER = ("hydra/launcher", "hydra.launcher")
_ALLOWED = (*_LAUNCHER, "sweep.fail_fast", "hydra.sweeper.n_trials", "hydra.sweeper.n_jobs")


def wanted(words: Iterable[str]) -> str | None:
    """Returns what follows `sweep.resume=` among the words of a command, `null` for nothing."""
    found = None
    for word in words:
        key, _, value = word.partition("=")
        if _key(key) == _KEY:
            found = value.strip("'\"").replace("\\'", "'")
    return None if found == "null" else found


def arguments_for(value: str, words: Iterable[str]) -> list[str]:
    """Returns the arguments of the whole command: the sweep's own, with what may be changed.

    Works from the folder where the sweep was begun, which its words may be relative to.

    Args:
        value: the sweep's folder.
        words: of the resuming command, without flags.

    Raises:
        ConfigError: there is no such sweep, or words that do not belong to one.
    """
    folder = Path(value).expanduser().absolute()
    where = f"{_KEY}={value}"
    if not folder.is_dir():
        raise ConfigError(f"{where}: there is no such folder; write {_KEY}=<folder of a sweep>")
    record = SweepRecord(folder)
    known = record.read()
    if not known:
        if SweepRecord(folder.parent).read():
            raise ConfigError(f"{where}: is one run of a sweep; write {_KEY}={folder.parent}")
        raise ConfigError(f"{where}: is not the folder of a sweep; it has no sweep.json")
    own = [word for word in words if _key(word) != _KEY]
    hidden = {_key(word) for word in known["words"] if word.endswith("=***")}
    for word in own:
        if not _key(word).startswith(_ALLOWED) and _key(word) not in hidden:
            raise ConfigError(
                f"{word}: the sweep in {value} goes on with its own words; beside {_KEY} write"
                " hydra/launcher=<word>, hydra.launcher.<setting>=<value>, sweep.fail_fast=<value>"
                " or, for a search, hydra.sweeper.n_trials=<number>"
            )
    for key in sorted(hidden - {_key(word) for word in own}):
        raise ConfigError(f"{where}: {key} looks secret and is not on record; write it again")
    if Path(known["cwd"]).is_dir():
        os.chdir(known["cwd"])
    replaced = _LAUNCHER if any(_key(w).startswith(_LAUNCHER) for w in own) else ()
    typed = {_key(word) for word in own}
    kept = [
        word
        for word in known["words"]
        if _key(word) not in (*typed, _KEY, "hydra.sweep.dir")
        and not (replaced and _key(word).startswith(replaced))
    ]
    mine = [f"{_KEY}={quoted(folder)}", f"hydra.sweep.dir={quoted(folder)}"]
    return ["-m", *known["flags"], *kept, *own, *mine]


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")
