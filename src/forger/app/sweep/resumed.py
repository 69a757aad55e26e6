"""A sweep that goes on: the command that `sweep.resume=<folder>` stands for.

Owns what may be written beside it. Imports neither torch nor anything that does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from forger.app.config.messages import quoted, type_setting
from forger.app.config.paths import expanded, text_of
from forger.app.config.records import is_named, links_out_of
from forger.app.sweep.record import SweepRecord
from forger.app.sweep.recorded_words import untrusted_files, untrusted_words
from forger.errors import ConfigError

_KEY = "sweep.resume"
_LAUNCHER = ("hydra/launcher", "hydra.launcher")
_ALLOWED = (
    *(*_LAUNCHER, "sweep.fail_fast", "hydra.sweeper.n_trials", "hydra.sweeper.n_jobs"),
    *("trust", "moved"),
)


def wanted(words: Iterable[str]) -> str | None:
    """Returns what follows `sweep.resume=` among the words of a command, `null` for nothing."""
    found = None
    for word in words:
        if _key(word) == _KEY:
            found = text_of(word)
    return found


def arguments_for(value: str, words: Iterable[str], typed_flags: Sequence[str] = ()) -> list[str]:
    """Returns the arguments of the whole command: the sweep's own, with what may be changed.

    Works from the folder where the sweep was begun, which its words may be relative to.

    Args:
        value: the sweep's folder.
        words: of the resuming command, without flags.
        typed_flags: of the resuming command, which say where config files lie.

    Raises:
        ConfigError: there is no such sweep, or words that do not belong to one.
    """
    folder = Path(expanded(value)).absolute()
    where = f"{_KEY}={value}"
    if not folder.is_dir():
        raise ConfigError(f"{where}: there is no such folder; write {_KEY}=<folder of a sweep>")
    record = SweepRecord(folder)
    known = record.read()
    if known and not _is_whole(known):
        raise ConfigError(f"{where}: sweep.json is damaged; it does not say what the sweep was")
    if not known:
        if SweepRecord(folder.parent).read():
            raise ConfigError(
                f"{where}: is one run of a sweep; write {type_setting(_KEY, folder.parent)}"
            )
        raise ConfigError(f"{where}: is not the folder of a sweep; it has no sweep.json")
    own = [word for word in words if _key(word) != _KEY]
    typed = {_key(word) for word in own}
    trust = _trusted(own)
    if links := links_out_of(folder, trust):
        raise ConfigError(f"{where}: {links[0]}")
    hidden = {_key(word) for word in known["words"] if word.endswith("=***")}
    doubtful = untrusted_words(known["words"], trust)
    again = hidden | {_key(word) for word in doubtful}
    for word in own:
        if not _key(word).startswith(_ALLOWED) and _key(word) not in again:
            raise ConfigError(
                f"{word}: the sweep in {value} goes on with its own words; beside {_KEY} write"
                " hydra/launcher=<word>, hydra.launcher.<setting>=<value>, sweep.fail_fast=<value>,"
                " trust=[<module>] or, for a search, hydra.sweeper.n_trials=<number>"
            )
    for key in sorted(hidden - typed):
        raise ConfigError(f"{where}: {key} looks secret and is not on record; write it again")
    for word in doubtful:
        if _key(word) not in typed:
            raise ConfigError(
                f"{where}: its {word} is not for a record to decide, which may be anybody's; if you"
                " know what it does, write it again, or trust=[<the module or place it names>]"
            )
    flags = list(typed_flags) or _flags(known["flags"], where, trust)
    _go_to(Path(known["cwd"]), where, trust)
    replaced = _LAUNCHER if any(_key(w).startswith(_LAUNCHER) for w in own) else ()
    kept = [
        word
        for word in known["words"]
        if _key(word) not in (*typed, _KEY, "hydra.sweep.dir")
        and not (replaced and _key(word).startswith(replaced))
    ]
    mine = [f"{_KEY}={quoted(folder)}", f"hydra.sweep.dir={quoted(folder)}"]
    return ["-m", *flags, *kept, *own, *mine]


def _is_whole(known: dict[str, Any]) -> bool:
    texts = [known.get("words"), known.get("flags"), [known.get("cwd")]]
    return all(isinstance(one, list) and all(isinstance(t, str) for t in one) for one in texts)


def _trusted(words: list[str]) -> list[str]:
    """Returns what a command's `trust=[...]` names."""
    found = [word for word in words if _key(word) == "trust"]
    try:
        value = OverridesParser.create().parse_override(found[-1]).value() if found else []
    except HydraException:
        value = None
    if not isinstance(value, list):
        raise ConfigError(f"{found[-1]}: must be a list; write trust=[my_nets]")
    return [str(one) for one in value]


def _flags(flags: list[str], where: str, trust: list[str]) -> list[str]:
    """Returns the flags of a sweep, where the config files that they choose are harmless."""
    text = " ".join(flags)
    if not flags or is_named(flags[-1].partition("=")[2] or flags[-1], trust):
        return flags
    name, _, folder = flags[0].partition("=") if len(flags) == 1 else (flags[0], "", flags[-1])
    doubtful = ["it"] if len(flags) > 2 or name not in ("--config-dir", "-cd") else []
    doubtful += untrusted_files(Path(folder), trust)
    if doubtful:
        raise ConfigError(
            f"{where}: was begun with {text}, and a record, which may be anybody's, does not decide"
            f" over {doubtful[0]}; if you know what that does, write {text} again"
        )
    return flags


def _go_to(folder: Path, where: str, trust: list[str]) -> None:
    """Works from the folder where the sweep was begun, unless that would be a stranger's choice."""
    here, script = Path.cwd(), Path(sys.argv[0]).absolute().parent
    if folder.is_dir() and not folder.samefile(here):
        if not folder.samefile(script) and not is_named(str(folder), trust):
            raise ConfigError(
                f"{where}: was begun in {folder}, where its relative paths and your own modules are"
                f" looked for; go there first, or write trust=['{folder}']"
            )
        os.chdir(folder)


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")
