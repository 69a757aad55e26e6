"""The command that `sweep.resume=<folder>` stands for, and what may be written beside it.

A sweep's folder may be anybody's, and its overrides become a command again: so they are judged as
the config of a run is, and of those for Hydra, which can start programs, only some are harmless.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from forger.app.config.command import Command, expanded, text_of
from forger.app.config.messages import quoted, type_setting
from forger.app.config.records import find_untrusted
from forger.app.config.trust import is_in_use, is_named, links_out_of, says_where
from forger.app.sweep.folder import TRIAL, SweepFolder
from forger.errors import ConfigError

_KEY = "sweep.resume"
_LAUNCHER = ("hydra/launcher", "hydra.launcher")
_COUNTS = ("hydra.sweeper.n_trials", "hydra.sweeper.n_jobs")
_ALLOWED = (*_LAUNCHER, *_COUNTS, "sweep.fail_fast", "trust", "moved")
_FOLDERS = ("paths.log_dir", "paths.cache_dir", "paths.data_dir", "data.cache_dir")
# Data that only reads what lies in data.root
_OF_FOLDERS = {
    *("data=image_folder", "data=paired_folder", "data=unpaired_folder"),
    *("data=grey_to_colour_folder", "data=masked_to_whole_folder"),
}
_PARAMS = "hydra.sweeper.params."
_HARMLESS = re.compile(
    r"hydra/(sweeper|launcher)(/\w+)?"
    r"|hydra\.sweeper\.(direction|n_trials|n_jobs|study_name|(sampler|pruner)\.(?!_)\w+)"
    r"|hydra\.launcher\.(n_jobs|verbose|timeout_min|partition|account|qos|constraint|nodes|name"
    r"|tasks_per_node|gpus_per_node|cpus_per_task|mem_gb|array_parallelism)"
)
_SUBDIR = re.compile(r"(\$\{hydra\.job\.(num|id|name|override_dirname)\}|[\w=,.-])+")
_PLAIN = re.compile(r"[\w.,:+@%=-]*")
_RESOLVER = re.compile(r"\$\{[^}]*:")
_DOTS = re.compile(r"(.*[\\/=])?\.\.([\\/]|$)", re.DOTALL)


def resumed_command(command: Command) -> Command:
    """Returns the sweep's own command, with what may be changed; `command` has `sweep.resume`.

    Works from the folder where the sweep was begun, which its overrides may be relative to.

    Raises:
        ConfigError: there is no such sweep, or overrides that do not belong to one.
    """
    value = next(str(text_of(one)) for one in reversed(command.overrides) if _key(one) == _KEY)
    folder, where = Path(expanded(value)).absolute(), f"{_KEY}={value}"
    known = _read(folder, where)
    typed = {_key(one): one for one in command.overrides if _key(one) != _KEY}
    trust = _trusted(typed)
    if links := links_out_of(folder, trust):
        raise ConfigError(f"{where}: {links[0]}")
    _check_overrides(typed, known["words"], trust, where)
    if known["flags"] and not command.config_flags:
        raise ConfigError(
            f"{where}: was begun with other config files, and a record, which may be anybody's,"
            f" does not decide where they lie; write {' '.join(known['flags'])} again"
        )
    _go_to(Path(known["cwd"]), where, trust, command)
    left_out = {*typed, _KEY, "hydra.sweep.dir"}
    if any(key.startswith(_LAUNCHER) for key in typed):
        left_out |= {key for key in map(_key, known["words"]) if key.startswith(_LAUNCHER)}
    kept = [override for override in known["words"] if _key(override) not in left_out]
    mine = [f"{_KEY}={quoted(folder)}", f"hydra.sweep.dir={quoted(folder)}"]
    return replace(command, overrides=(*kept, *typed.values(), *mine), multirun=True)


def _read(folder: Path, where: str) -> dict[str, Any]:
    """Returns what a sweep was asked for."""
    known = SweepFolder(folder).read()
    if not known and SweepFolder(folder.parent).read():
        right = type_setting(_KEY, folder.parent)
        raise ConfigError(f"{where}: is one run of a sweep; write {right}")
    lists = [known.get("words"), known.get("flags"), [known.get("cwd")]]
    if not all(isinstance(one, list) and all(isinstance(t, str) for t in one) for one in lists):
        raise ConfigError(f"{where}: is not the folder of a sweep; it has no whole sweep.json")
    return known


def _trusted(typed: dict[str, str]) -> list[str]:
    """Returns what a command's `trust=[...]` names."""
    value = OmegaConf.from_dotlist([typed.get("trust", "trust=[]")]).trust
    if not OmegaConf.is_list(value):
        raise ConfigError(f"{typed['trust']}: must be a list; write trust=[my_nets]")
    return [str(one) for one in value]


def _check_overrides(
    typed: dict[str, str], recorded: Sequence[str], trust: Sequence[str], where: str
) -> None:
    """Refuses what may not be changed, and what has to be written again."""
    hidden = {_key(override) for override in recorded if override.endswith("=***")}
    doubtful = {_key(override): override for override in untrusted_overrides(recorded, trust)}
    for key, override in typed.items():
        if not key.startswith(_ALLOWED) and key not in hidden and key not in doubtful:
            raise ConfigError(
                f"{override}: the sweep goes on with its own overrides; beside {where} write"
                " hydra/launcher=<choice>, hydra.launcher.<setting>=<value>,"
                " sweep.fail_fast=<value>, trust=[<module>] or, for a search,"
                " hydra.sweeper.n_trials=<number>"
            )
    for key in hidden - typed.keys():
        raise ConfigError(f"{where}: {key} looks secret and is not on record; write it again")
    for key in doubtful.keys() - typed.keys():
        raise ConfigError(
            f"{where}: its {doubtful[key]} is not for a record to decide, which may be anybody's;"
            " if you know what it does, write it again, or trust=[<the module or folder it names>]"
        )


def _go_to(folder: Path, where: str, trust: Sequence[str], command: Command) -> None:
    """Works from the folder where the sweep was begun, unless that would be a stranger's choice."""
    if not folder.is_dir() or folder.samefile(Path.cwd()):
        return
    own = [Path(part).resolve().parent for part in command.program if part.endswith(".py")]
    if folder.resolve() not in own and not is_named(str(folder), trust):
        raise ConfigError(
            f"{where}: was begun in {folder}, where its relative paths and your own modules are"
            f" looked for; go there first, or write trust=['{folder}']"
        )
    os.chdir(folder)


def without_folders_elsewhere(overrides: Iterable[str], folder: Path) -> list[str]:
    """Leaves out of a job's overrides where a sweep wants to write beside its own folder.

    A cache or data that are there stay; for the rest the command's own config decides.
    """

    def stays(override: str) -> bool:
        key, value = _key(override), override.partition("=")[2].strip("'\"")
        if key == "paths.log_dir":
            return Path(value).absolute() in folder.parents
        return key not in _FOLDERS or is_in_use(key.rpartition(".")[2], value)

    return list(filter(stays, overrides))


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def untrusted_overrides(overrides: Sequence[str], trust: Sequence[str]) -> list[str]:
    """Returns those overrides of a sweep that its files may not decide."""
    doubtful = [override for override in overrides if not _is_harmless(override, trust)]
    only_read = bool(_OF_FOLDERS & {*overrides})
    return [one for one in doubtful if not (only_read and one.startswith("data.root="))]


def _is_harmless(override: str, trust: Sequence[str]) -> bool:
    if override.endswith("=***"):  # a secret, which has to be written again anyway
        return True
    try:
        parsed = OverridesParser.create().parse_override(override)
        values = [parsed.value()]
        if parsed.is_sweep_override():  # an interval is of numbers
            values = list(parsed.sweep_iterator()) if parsed.is_discrete_sweep() else []
    except (HydraException, ValueError):
        return False
    return all(_may_be(key, leaf, trust) for key, leaf in _leaves(parsed.key_or_group, values))


def _may_be(key: str, value: Any, trust: Sequence[str]) -> bool:
    """Tells whether a sweep may give a setting this value, which is no mapping and no list."""
    text = value if isinstance(value, str) else ""
    if "\n" in text or _DOTS.match(text):
        return False
    if key.startswith(_PARAMS):
        return _is_harmless(f"{key.removeprefix(_PARAMS)}={value}", trust)
    if key == "hydra.sweep.subdir":
        return _SUBDIR.fullmatch(text) is not None
    if key.startswith("hydra"):
        # a sweep that goes on has its folder and mode from where it lies
        own = key in ("hydra.sweep.dir", "hydra.mode") or value == {}
        return own or (_HARMLESS.fullmatch(key) is not None and _PLAIN.fullmatch(text) is not None)
    if _RESOLVER.search(text) or key.startswith(TRIAL):
        return False
    name = key.rpartition(".")[2]
    if key not in _FOLDERS and says_where(name) and value is not None:
        kept = name == "root" and is_in_use(name, text)
        return kept or is_named(str(value), trust)
    node: Any = None if "${" in text else value  # what another setting says is judged there
    for part in reversed(key.split(".")):
        node = {part: node}
    return not find_untrusted(node, trust, names_only=True)


def _leaves(key: str, node: Any) -> Iterator[tuple[str, Any]]:
    """Yields each value in a config with its dotted key; an item of a list has that of its list."""
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from _leaves(f"{key}.{name}" if key else str(name), value)
    elif isinstance(node, list):
        for value in node:
            yield from _leaves(key, value)
    else:
        yield key, node
