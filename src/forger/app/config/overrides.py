"""Reads overrides one by one: mistakes that need no config to be seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from forger.app.config.command import Command
from forger.app.config.messages import as_overrides, choice, given, quoted, type_setting, typed
from forger.app.config.sections import GROUPS, OFF, RECIPES, SCRIPTS
from forger.errors import install_command

# Groups of which several files can be chosen at once; for the others the last would win in silence.
_SEVERAL = frozenset({"logger", "callbacks", "experiment", "debug"})


@dataclass
class Overrides:
    """The overrides of one command, sorted.

    Attributes:
        command: the command.
        loader: finds config files.
        choices: the alternatives of each override that chooses a file.
        settings: those that set a value.
        task: both, as typed.
        for_hydra: those for Hydra itself, and what `--config-dir` means.
        problems: what is wrong, one line each.
    """

    command: Command
    loader: ConfigLoader
    choices: list[list[str]] = field(default_factory=list)
    settings: list[Override] = field(default_factory=list)
    task: list[str] = field(default_factory=list)
    for_hydra: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.script, extra = SCRIPTS[self.command.script], self.command.extra_config_dir
        if extra is not None:
            self.for_hydra.append(f"hydra.searchpath=[{quoted(Path(extra).absolute())}]")

    def options(self, group: str) -> list[str]:
        """Returns the names of a group's files; none where there is no such group."""
        if "." in group or not self.script.has_group(group):
            return []
        typed_ones = [*self.for_hydra, *self.command.overrides]
        search = [one for one in typed_ones if one.startswith("hydra.searchpath=")]
        if not search:  # Hydra would read the main config each time
            return sorted(path.stem for path in (self.command.config_dir / group).glob("*.yaml"))
        name = self.command.config_name
        return self.loader.get_group_options(group, ObjectType.CONFIG, name, search)


def read_overrides(command: Command, loader: ConfigLoader) -> Overrides:
    """Parses each override alone, so that one mistake hides no other."""
    found = Overrides(command, loader)
    parser = OverridesParser.create(config_loader=loader)
    earlier: dict[str, str] = {}
    for text in command.overrides:
        try:
            override = parser.parse_override(text)
        except HydraException:
            found.problems.append(f"{text}: {_unreadable(text, found)}")
            continue
        if isinstance(override._value, bool) and override.key_or_group in found.script.switches:
            meant = found.script.switches[override.key_or_group]
            override = replace(override, key_or_group=meant)
        if override.is_hydra_override():  # may come twice: processes are told a folder
            if refusal := _refusal_for_hydra(override):
                found.problems.append(f"{text}: {refusal}")
            found.for_hydra.append(text)
            continue
        found.task.append(text)
        if refusal := _refusal(override, earlier, found):
            found.problems.append(f"{text}: {refusal}")
        elif found.options(override.key_or_group):
            _add_choice(override, found)
        else:
            found.settings.append(override)
    return found


def _unreadable(text: str, overrides: Overrides) -> str:
    """Says what to write instead of what Hydra's grammar cannot read."""
    key, equals, value = text.partition("=")
    groups = [*sorted(group.replace(".", "/") for group in GROUPS), *RECIPES]
    if group := next((group for group in groups if text in overrides.options(group)), None):
        return f"is not a setting; write {group}={text}"
    if not equals and "run" in overrides.script.settings and Path(text).exists():
        return f"is not a setting; write {type_setting('run', text)}"
    if not equals:
        return f"has no value; write {text}=<value>"
    example = typed(f"{key}={quoted(value)}")
    return f"cannot be read; quote a value with any of ,:[]{{}}()=$~# or spaces, {example}"


def _refusal(override: Override, earlier: dict[str, str], overrides: Overrides) -> str | None:
    """Returns what is wrong with an override beside its value."""
    key, text, script = override.key_or_group, str(override.input_line), overrides.script
    if key in ("", "hydra"):
        return "is not a setting; write <setting>=<value>"
    before = earlier.setdefault(f"{key}@{override.package}".replace("/", "."), text)
    value, other, group = text.partition("=")[2], before.partition("=")[2], key.replace(".", "/")
    if text != before:
        both = f"write {key}=[{other},{value}] for both" if key in _SEVERAL else None
        return f"{before} was written too; {both or 'leave one of them out'}"
    if override.package is not None:
        return f"a file goes where its group is; write {key}=<choice>"
    around = group.rpartition("/")[0]
    nothing = f"{around}={OFF.get(around)}"
    if script.section(around).optional and nothing in overrides.command.overrides:
        return f"does nothing with {nothing}; leave one of them out"
    names_file = not override.is_delete() and not isinstance(override.value(), (dict, int))
    if group != key and names_file and overrides.options(group):
        return f"a file is chosen with a slash; write {group}={value}"
    if override.is_sweep_override() and script.once is not None:
        instead = f"{overrides.command.script}.py {script.once}"
        return f"several values; {instead}; as one value, {typed(f'{key}={quoted(value)}')}"
    if override.is_sweep_override() and not overrides.command.multirun:
        is_one = overrides.options(key) and key not in _SEVERAL
        as_list = "" if is_one else f", or write {key}=[...] for a list"
        return f"several values; add -m for a run of each{as_list}"
    return script.refusal_of(text, overrides.command.overrides)


def _refusal_for_hydra(override: Override) -> str | None:
    """Returns what is wrong with an override for Hydra that Hydra itself would take."""
    key = override.key_or_group
    value = None if override.is_delete() else override.value()
    if key == "hydra.job.chdir" and value is True:
        return "relative paths, paths.data_dir for one, would mean others; leave it out"
    for folder in value if key == "hydra.searchpath" and isinstance(value, list) else ():
        path = str(folder).removeprefix("file://")
        if "://" not in path and not Path(path).is_dir():
            return f"there is no folder {path}"
    return None


def _add_choice(override: Override, overrides: Overrides) -> None:
    """Refuses what names no file of its group; keeps the rest."""
    group, text = override.key_or_group, str(override.input_line)
    lines, values = [text], list[Any]()
    if override.is_discrete_sweep():
        lines = [f"{group}={value}" for value in override.sweep_string_iterator()]
        values = list(override.sweep_iterator())
    elif not override.is_delete():
        values = [override.value()]
    wrong = [line for value in values for line in _wrong_choices(group, value, overrides)]
    if text.startswith("+") and group.replace("/", ".") in {*GROUPS, *RECIPES}:
        wrong = [f"{text}: write {text.lstrip('+')}"]
    overrides.problems += wrong
    overrides.choices += [] if wrong else [lines]


def _wrong_choices(group: str, value: Any, overrides: Overrides) -> Iterator[str]:
    """Yields a complaint for each name that no file of the group has."""
    options = overrides.options(group)
    names = value if isinstance(value, list) and value else [value]
    if len(names) > 1 and group not in _SEVERAL:
        yield f"{given(group, value)}: takes one choice. Allowed: {', '.join(options)}"
        return
    for name in names:
        if isinstance(name, dict):
            instead = typed(*as_overrides(group, name))
            yield f"{given(group, name)}: must name a file; write {instead}"
        elif name not in options:
            yield f"{given(group, name)}: no such choice{choice(str(name), options)}"


def with_first_value(override: Override) -> Override:
    """Returns an override with the first of its values, where it has several."""
    if not override.is_sweep_override():
        return override
    values = override.sweep_iterator() if override.is_discrete_sweep() else ()
    return replace(override, value_type=ValueType.ELEMENT, _value=next(iter(values), None))


def sweep_problems(hydra: DictConfig) -> Iterator[str]:
    """Yields what is wrong with Hydra's own part of a sweep's config: folders, the launcher."""
    subdir = str(hydra.sweep._get_node("subdir"))
    if "${" not in subdir:
        right = "'hydra.sweep.subdir=${hydra.job.num}'"
        yield f"hydra.sweep.subdir={subdir}: would be the folder of every job; write {right}"
    target = str(OmegaConf.select(hydra, "launcher._target_"))
    is_plugin = target.startswith("hydra_plugins.")
    if is_plugin and find_spec(".".join(target.split(".")[:2])) is None:
        launcher = str(hydra.runtime.choices.get("hydra/launcher"))
        install = install_command(launcher.partition("_")[0])
        yield f"hydra/launcher={launcher}: its package is not installed; run {install}"
