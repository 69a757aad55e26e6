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

from forger.app.config.command import Command
from forger.app.config.messages import quoted, type_setting
from forger.app.config.paths import expanded, text_of
from forger.app.config.records import find_untrusted
from forger.app.config.trust import is_in_use, is_named, links_out_of, says_where
from forger.app.sweep.folder import SweepFolder
from forger.errors import ConfigError

_KEY = "sweep.resume"
_LAUNCHER = ("hydra/launcher", "hydra.launcher")
_ALLOWED = (
    *(*_LAUNCHER, "sweep.fail_fast", "hydra.sweeper.n_trials", "hydra.sweeper.n_jobs"),
    *("trust", "moved"),
)
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
_FOLDERS = ("paths.log_dir", "paths.cache_dir", "paths.data_dir", "data.cache_dir")


def is_resumed(command: Command) -> bool:
    """Tells whether a command goes on with a sweep."""
    return any(_key(override) == _KEY for override in command.overrides)


def resumed_command(command: Command) -> Command:
    """Returns the sweep's own command, with what may be changed; `command` has `sweep.resume`.

    Works from the folder where the sweep was begun, which its overrides may be relative to.

    Raises:
        ConfigError: there is no such sweep, or overrides that do not belong to one.
    """
    value = next(str(text_of(one)) for one in reversed(command.overrides) if _key(one) == _KEY)
    folder, where = Path(expanded(value)).absolute(), f"{_KEY}={value}"
    known = _read(folder, where)
    own = [override for override in command.overrides if _key(override) != _KEY]
    typed = {_key(override) for override in own}
    trust = _trusted(own)
    if links := links_out_of(folder, trust):
        raise ConfigError(f"{where}: {links[0]}")
    hidden = {_key(override) for override in known["words"] if override.endswith("=***")}
    doubtful = untrusted_overrides(known["words"], trust)
    for override in own:
        if not _key(override).startswith(_ALLOWED) and _key(override) not in (
            hidden | {_key(one) for one in doubtful}
        ):
            raise ConfigError(
                f"{override}: the sweep in {value} goes on with its own overrides; beside {_KEY}"
                " write hydra/launcher=<choice>, hydra.launcher.<setting>=<value>,"
                " sweep.fail_fast=<value>, trust=[<module>] or, for a search,"
                " hydra.sweeper.n_trials=<number>"
            )
    for key in sorted(hidden - typed):
        raise ConfigError(f"{where}: {key} looks secret and is not on record; write it again")
    for override in doubtful:
        if _key(override) not in typed:
            raise ConfigError(
                f"{where}: its {override} is not for a record to decide, which may be anybody's; if"
                " you know what it does, write it again, or trust=[<the module or place it names>]"
            )
    command = _with_flags(command, known["flags"], where, trust)
    _go_to(Path(known["cwd"]), where, trust, command)
    left_out = (*typed, _KEY, "hydra.sweep.dir")
    replaced = _LAUNCHER if any(key.startswith(_LAUNCHER) for key in typed) else ()
    kept = [
        override
        for override in known["words"]
        if _key(override) not in left_out and not (replaced and _key(override).startswith(replaced))
    ]
    mine = [f"{_KEY}={quoted(folder)}", f"hydra.sweep.dir={quoted(folder)}"]
    return replace(command, overrides=(*kept, *own, *mine), multirun=True)


def _read(folder: Path, where: str) -> dict[str, Any]:
    """Returns what a sweep was asked for."""
    if not folder.is_dir():
        raise ConfigError(f"{where}: there is no such folder; write {_KEY}=<folder of a sweep>")
    known = SweepFolder(folder).read()
    if not known and SweepFolder(folder.parent).read():
        right = type_setting(_KEY, folder.parent)
        raise ConfigError(f"{where}: is one run of a sweep; write {right}")
    if not known:
        raise ConfigError(f"{where}: is not the folder of a sweep; it has no sweep.json")
    texts = [known.get("words"), known.get("flags"), [known.get("cwd")]]
    if not all(isinstance(one, list) and all(isinstance(t, str) for t in one) for one in texts):
        raise ConfigError(f"{where}: sweep.json is damaged; it does not say what the sweep was")
    return known


def _trusted(overrides: Sequence[str]) -> list[str]:
    """Returns what a command's `trust=[...]` names."""
    found = [override for override in overrides if _key(override) == "trust"]
    value = OmegaConf.from_dotlist(["trust=[]", *found]).trust
    if not OmegaConf.is_list(value):
        raise ConfigError(f"{found[-1]}: must be a list; write trust=[my_nets]")
    return [str(one) for one in value]


def _with_flags(
    command: Command, flags: Sequence[str], where: str, trust: Sequence[str]
) -> Command:
    """Returns the command with a sweep's flags, where the files that they choose are harmless."""
    if command.config_flags or not flags:
        return command
    parts = [part for flag in flags for part in flag.split("=", 1)]
    given = dict(zip(parts[::2], parts[1::2], strict=False))
    extra = given.get("--config-dir", given.get("-cd"))
    if not all(is_named(value, trust) for value in given.values()):
        doubtful = (
            ["it"] if extra is None or len(given) > 1 else untrusted_files(Path(extra), trust)
        )
        if doubtful:
            text = " ".join(flags)
            raise ConfigError(
                f"{where}: was begun with {text}, and a record, which may be anybody's, does not"
                f" decide over {doubtful[0]}; if you know what that does, write {text} again"
            )
    return replace(
        command,
        config_dir=Path(given.get("--config-path", given.get("-cp", command.config_dir))),
        config_name=given.get("--config-name", given.get("-cn", command.config_name)),
        extra_config_dir=extra,
        config_flags=tuple(flags),
    )


def _go_to(folder: Path, where: str, trust: Sequence[str], command: Command) -> None:
    """Works from the folder where the sweep was begun, unless that would be a stranger's choice."""
    if not folder.is_dir() or folder.samefile(Path.cwd()):
        return
    own = [Path(part).absolute().parent for part in command.program if part.endswith(".py")]
    known = folder.resolve() in [path.resolve() for path in own]
    if not known and not is_named(str(folder), trust):
        raise ConfigError(
            f"{where}: was begun in {folder}, where its relative paths and your own modules are"
            f" looked for; go there first, or write trust=['{folder}']"
        )
    os.chdir(folder)


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def untrusted_overrides(overrides: Iterable[str], trust: Sequence[str]) -> list[str]:
    """Returns those overrides of a sweep that its files may not decide."""
    overrides = list(overrides)
    only_read = ("data.root",) if "data=image_folder" in overrides else ()
    return [
        override
        for override in overrides
        if not _is_harmless(override, trust) and override.partition("=")[0] not in only_read
    ]


def untrusted_files(folder: Path, trust: Sequence[str]) -> list[str]:
    """Returns the config files in a folder that a sweep names which it may not decide."""
    return [
        str(path)
        for path in sorted(folder.rglob("*.y*ml"))
        if not _is_harmless_file(path, path.relative_to(folder).parts[:-1], trust)
    ]


def without_folders_elsewhere(overrides: Iterable[str], folder: Path) -> list[str]:
    """Leaves out of a job's overrides where a sweep wants to write beside its own folder.

    A cache or data that are there stay; for the rest the command's own config decides.
    """

    def is_elsewhere(override: str) -> bool:
        key, value = _key(override), override.partition("=")[2].strip("'\"")
        if key == "paths.log_dir":
            return Path(value).absolute() not in folder.parents
        return key in _FOLDERS and not is_in_use(key.rpartition(".")[2], value)

    return [override for override in overrides if not is_elsewhere(override)]


def _is_harmless(override: str, trust: Sequence[str]) -> bool:
    if "***" in override:  # a secret, which has to be written again anyway
        return True
    try:
        parsed = OverridesParser.create().parse_override(override)
        discrete = parsed.is_discrete_sweep()
        values = list(parsed.sweep_iterator()) if discrete else [parsed.value()]
    except (HydraException, ValueError):
        return False
    if parsed.is_sweep_override() and not discrete:
        values = []  # an interval of numbers
    leaves = [leaf for value in values for leaf in _leaves(parsed.key_or_group, value)]
    return all(_may_be(key, value, trust) for key, value in leaves)


def _is_harmless_file(path: Path, group: Sequence[str], trust: Sequence[str]) -> bool:
    package = re.findall(r"@package\s+(\S+)", path.read_text(errors="replace"))
    if group[:1] == ("hydra",) or package not in ([], ["_global_"]):
        return False
    try:
        node: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except Exception:  # whatever YAML may be damaged by
        return False
    if not isinstance(node, dict):
        return not node
    node.pop("defaults", None)
    inside = {} if package else {"hydra": node.pop("hydra", {})}
    return all(
        _may_be(key, value, trust)
        for key, value in (*_leaves(".".join(() if package else group), node), *_leaves("", inside))
    )


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
    if _RESOLVER.search(text) or key.startswith("sweep.trial"):
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
