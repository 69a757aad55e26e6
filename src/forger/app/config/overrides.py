"""Reads overrides one by one: mistakes that need no config to be seen.

An override that cannot be read, names no file of its group, contradicts another one, or is for
Hydra itself and would be ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from forger.app.config.command import Command, is_path
from forger.app.config.messages import (
    as_overrides,
    choice,
    given,
    quoted,
    type_setting,
    typed,
)
from forger.app.config.sections import GROUPS, RECIPES, SCRIPTS
from forger.errors import install_command

# Groups of which several files can be chosen at once; for the others the last would win in silence.
_SEVERAL = frozenset({"logger", "callbacks", "experiment", "debug"})
# What to write for "nothing" where a group has no file `none`.
_OPTIONAL = dict.fromkeys(("experiment", "hparams_search", "debug"), "leave it out")
_INSTEAD_OF_NOTHING = _OPTIONAL | {
    "logger": "CSV is always on, metrics.csv in the run folder; leave logger out for no tracker",
    "callbacks": "write callbacks.<name>=null for each that is to be left out",
    "schedule": "write schedule=constant",
}
_NOTHING = ("none", "null", "off", "no", "false", "disabled", "")
# What may stand before the equals sign, an index of a list among it
_KEY = re.compile(r"(\+\+?|~)?[A-Za-z_][\w-]*([./][\w-]+|\[\d+\])*(@[\w.:/]*)?", re.ASCII)
_LAUNCHERS = ("joblib", "submitit", "ray")  # extras of the same names


@dataclass
class Overrides:
    """The overrides of one command, sorted.

    Attributes:
        command: the command.
        loader: finds config files.
        typed: all of them, in that order, with what `--config-dir` means.
        choices: the alternatives of each override that chooses a file.
        for_hydra: those for Hydra itself.
        settings: all the others.
        several: complaints about several values, which are right in a sweep.
        problems: what is wrong, one line each.
    """

    command: Command
    loader: ConfigLoader
    choices: list[list[str]] = field(default_factory=list)
    for_hydra: list[str] = field(default_factory=list)
    settings: list[Override] = field(default_factory=list)
    several: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _options: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.script, self.typed = SCRIPTS[self.command.script], list(self.command.overrides)
        if self.command.extra_config_dir is not None:
            folder = quoted(Path(self.command.extra_config_dir).absolute())
            self.for_hydra.append(f"hydra.searchpath=[{folder}]")
            self.typed += self.for_hydra
        search = [one for one in self.typed if one.startswith("hydra.searchpath=")]
        path = self.command.config_dir / f"{self.command.config_name}.yaml"
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        loader: Any = self.loader  # its public method copies all sources for every group
        self._files = loader.repository
        if search or "searchpath" in text:
            _, self._files = loader._parse_overrides_and_create_caching_repo(
                self.command.config_name, search
            )

    def options(self, group: str) -> list[str]:
        """Returns the names of a group's files; none where there is no such group."""
        if "." in group or not self.script.has_group(group):
            return []
        if group not in self._options:
            self._options[group] = self._files.get_group_options(group, ObjectType.CONFIG)
        return self._options[group]

    def homes_of(self, name: Any) -> list[str]:
        """Returns the groups that have a file of that name."""
        known = [*sorted(group.replace(".", "/") for group in GROUPS), *RECIPES]
        return [group for group in known if isinstance(name, str) and name in self.options(group)]


def read_overrides(command: Command, loader: ConfigLoader) -> Overrides:
    """Parses each override alone, so that one mistake hides no other."""
    found = Overrides(command, loader)
    parser = OverridesParser.create(config_loader=loader)
    earlier: dict[str, str] = {}
    for text in command.overrides:
        try:
            override = parser.parse_override(text)
        except HydraException:
            found.problems.append(_unreadable(text, found))
            continue
        refused = _refusal(override, earlier, found)
        if refused is not None:
            found.problems.append(f"{text}: {refused}")
        elif _is_for_hydra(override.key_or_group):
            found.for_hydra.append(text)
        elif found.options(override.key_or_group):
            _add_choice(override, found)
        else:
            found.settings.append(override)
        if override.is_sweep_override() and refused is None:
            found.several.append(f"{text}: several values; {_one_value(override, found)}")
    return found


def _unreadable(text: str, overrides: Overrides) -> str:
    """Words the refusal of what Hydra's grammar cannot read."""
    key, equals, value = text.partition("=")
    if homes := overrides.homes_of(text):
        return f"{text}: is not a setting; write {homes[0]}={text}"
    if not equals and "run" in overrides.script.settings and Path(text).exists():
        return f"{text}: is not a setting; write {type_setting('run', text)}"
    if not equals and re.split(r"[./]", text)[0] in overrides.script.settings:
        return f"{text}: has no value; write {text}=<value>"
    if not equals and not text.startswith("~"):
        return f"{text}: is not a setting; write <setting>=<value>"
    if not _KEY.fullmatch(key):
        return f"{text}: {key} is not the name of a setting; write <setting>=<value>"
    if "[" in key:
        return f"{text}: a list is set as a whole; write {key.partition('[')[0]}=[...]"
    return (
        f"{text}: cannot be read; quote a value with any of ,:[]{{}}()=$~# or spaces,"
        f" {typed(f'{key}={quoted(value)}')}"
    )


def _refusal(override: Override, earlier: dict[str, str], overrides: Overrides) -> str | None:
    """Returns what is wrong with an override, its value left aside."""
    key, text = override.key_or_group, str(override.input_line)
    if not key:
        return "is not a setting; write <setting>=<value>"
    if _is_for_hydra(key):  # Lightning gives some twice to processes that it starts
        return _refusal_for_hydra(override)
    before = earlier.setdefault(override.get_key_element().replace("/", "."), text)
    value, other, group = text.partition("=")[2], before.partition("=")[2], key.replace(".", "/")
    if value != other:
        both = f"write {key}=[{other},{value}] for both" if key in _SEVERAL else None
        return f"{before} was written too; {both or 'leave one of them out'}"
    if override.package is not None:
        return f"a file goes where its group is; write {key}=<choice>"
    names_file = not override.is_delete() and not isinstance(override.value(), (dict, int))
    if group != key and names_file and overrides.options(group):
        return f"a file is chosen with a slash; write {group}={value}"
    return overrides.script.refusal_of(text, overrides.command.overrides)


def _one_value(override: Override, overrides: Overrides) -> str:
    """Says what to write instead of several values."""
    key, _, values = str(override.input_line).partition("=")
    script, quote = overrides.script, typed(f"{key}={quoted(values)}")
    choices = bool(overrides.options(key))
    if script.once is not None and choices:
        return "write one of them"
    if script.once is not None:
        name = overrides.command.script
        return f"{name}.py {script.once}, or quote a value that holds a comma: {quote}"
    if is_path(key):
        return f"add -m for a run of each, or quote it as one: {quote}"
    one = choices and key not in _SEVERAL
    return "add -m for a run of each" + ("" if one else f", or write {key}=[...] for a list")


def _add_choice(override: Override, overrides: Overrides) -> None:
    """Refuses what names no file of its group; keeps the rest."""
    group, text = override.key_or_group, str(override.input_line)
    if override.is_delete():
        instead = None if group in _OPTIONAL else _instead_of_nothing(group, None, overrides)
        wrong = [] if instead is None else [f"{text}: {instead}"]
        lines = [text]
    elif text.startswith("+") and group.replace("/", ".") in {*GROUPS, *RECIPES}:
        wrong, lines = [f"{text}: write {text.lstrip('+')}"], []
    elif override.is_sweep_override() and not override.is_discrete_sweep():
        allowed = ", ".join(sorted(overrides.options(group)))
        wrong, lines = [f"{text}: {group} takes names, {allowed}"], []
    else:
        swept = override.is_sweep_override()
        values: list[Any] = list(override.sweep_iterator()) if swept else [override.value()]
        each = override.sweep_string_iterator() if swept else ()
        lines = [f"{group}={value}" for value in each] or [text]
        wrong = [line for value in values for line in _wrong_choices(group, value, overrides)]
    overrides.problems += wrong
    overrides.choices += [] if wrong else [lines]


def _wrong_choices(group: str, value: Any, overrides: Overrides) -> Iterator[str]:
    """Yields a complaint for each name that no file of the group has."""
    options = overrides.options(group)
    allowed = f"Allowed: {', '.join(sorted(options))}"
    names = value if isinstance(value, list) and value else [value]
    if len(names) > 1 and group not in _SEVERAL:
        yield f"{given(group, value)}: takes one choice. {allowed}"
        return
    for name in names:
        if isinstance(name, str) and name in options:
            continue
        shown = given(group, name)
        if (instead := _instead_of_nothing(group, name, overrides)) is not None:
            yield f"{shown}: {instead}"
        elif isinstance(name, dict):
            yield f"{shown}: must name a file; write {typed(*as_overrides(group, name))}"
        elif homes := overrides.homes_of(name):
            yield f"{shown}: no such choice, but {homes[0]}={name} is one. {allowed}"
        else:
            yield f"{shown}: no such choice{choice(str(name), options)}"


def _instead_of_nothing(group: str, name: Any, overrides: Overrides) -> str | None:
    """Says what to write instead of a name for no choice; `None`: it is no such name."""
    nothing = name.lower() in _NOTHING if isinstance(name, str) else name in (None, False, [])
    if nothing and "none" in overrides.options(group):
        return f"write {group}=none"
    return _INSTEAD_OF_NOTHING.get(group) if nothing else None


def with_first_value(override: Override) -> Override:
    """Returns an override with the first of its values, where it has several."""
    if not override.is_sweep_override():
        return override
    values = override.sweep_iterator() if override.is_discrete_sweep() else ()
    return replace(override, value_type=ValueType.ELEMENT, _value=next(iter(values), None))


def _is_for_hydra(key: str) -> bool:
    return key.partition("@")[0] == "hydra" or key.startswith(("hydra.", "hydra/"))


def _refusal_for_hydra(override: Override) -> str | None:
    """Returns what is wrong with an override for Hydra that Hydra itself would take."""
    key = override.key_or_group
    if key == "hydra":
        return "belongs to the script; write hydra.<setting>=<value>"
    if override.is_add() or override.is_force_add():
        return _not_hydras(key)
    if override.is_delete() or override.is_sweep_override():
        return None
    value = override.value()
    if key == "hydra.job.chdir" and value is True:
        return "relative paths, paths.data_dir for one, would mean others; leave it out"
    folders = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
    if key in folders and isinstance(value, str) and not value.strip():
        return "must name a folder"
    for folder in value if key == "hydra.searchpath" and isinstance(value, list) else ():
        path = str(folder).removeprefix("file://")
        if "://" not in path and not Path(path).is_dir():
            return f"there is no folder {path}"
    return None


def _not_hydras(key: str) -> str | None:
    """Refuses a setting that Hydra's schema does not have: a plus sign would add it."""
    kind: Any = HydraConf
    for part in key.split(".")[1:]:
        if not is_dataclass(kind):
            return None
        known = {one.name: one.type for one in fields(kind)}
        if part not in known:
            return "unknown setting of Hydra" + choice(part, known)
        kind = known[part]
    return None


def sweep_problems(hydra: DictConfig) -> Iterator[str]:
    """Yields what is wrong with Hydra's own part of a sweep's config: folders, the launcher."""
    subdir = str(hydra.sweep._get_node("subdir"))
    if "${" not in subdir:
        yield (
            f"hydra.sweep.subdir={subdir}: would be the folder of every job; write "
            "'hydra.sweep.subdir=${hydra.job.num}'"
        )
    target = str(OmegaConf.select(hydra, "launcher._target_"))
    package = ".".join(target.split(".")[:2])
    extra = next((name for name in _LAUNCHERS if package == _package_of(name)), None)
    if extra is not None and find_spec(package) is None:
        chosen = hydra.runtime.choices.get("hydra/launcher", extra)
        install = install_command(extra)
        yield f"hydra/launcher={chosen}: its package is not installed; run {install}"


def _package_of(launcher: str) -> str:
    return f"hydra_plugins.hydra_{launcher}_launcher"
