"""The words of a command line, sorted by what they do and held against the config files' names.

Owns mistakes that need no config to be seen: a word that cannot be read, a choice that no file has.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from forger.app.config import hydra_words
from forger.app.config.choices import (
    OPTIONAL,
    SEVERAL,
    as_hydra_reads,
    dotted_group,
    homes_of,
    instead_of_nothing,
    may_be_dotted_group,
    wrong_choices,
)
from forger.app.config.command import Command
from forger.app.config.complaints import instead, misplaced, ungrammatical
from forger.app.config.hydra_words import for_hydra
from forger.app.config.mains import MAINS
from forger.app.config.messages import quoted
from forger.app.config.places import GROUPS


@dataclass
class Reading:
    """The words of one command, sorted.

    Attributes:
        loader: finds config files.
        command: what was typed.
        groups: the words that choose files.
        search_path: words that add folders of config files.
        several: complaints about several values, right in a sweep alone.
        problems: what is wrong, one line each.
        chosen: the alternatives of each word that chooses a file.
        plain: words for Hydra itself.
        settings: all the others.
    """

    loader: ConfigLoader
    command: Command
    groups: list[str] = field(default_factory=list)
    search_path: list[str] = field(default_factory=list)
    several: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    chosen: list[list[str]] = field(default_factory=list)
    plain: list[str] = field(default_factory=list)
    settings: list[Override] = field(default_factory=list)
    _files: Any = None
    _options: dict[str, list[str]] = field(default_factory=dict)
    _words: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        words = self.command.overrides
        self.search_path += [word for word in words if word.startswith("hydra.searchpath=")]
        if self.command.extra_config_dir is not None:
            word = f"hydra.searchpath=[{quoted(Path(self.command.extra_config_dir).absolute())}]"
            self.search_path.append(word)
            self.plain.append(word)
        loader: Any = self.loader  # its public methods would read the main config for each group
        self._files = loader.repository
        if self.search_path or "searchpath" in _text(self.command):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of folders that are not there: told as a mistake
                _, self._files = loader._parse_overrides_and_create_caching_repo(
                    self.command.config_name, self.search_path
                )
        groups = self._files.get_group_options("", ObjectType.GROUP)
        has_group = MAINS[self.command.script].has_group
        self.groups += [name for name in groups if name != "hydra" and has_group(name)]

    def repeated(self, override: Override) -> str | None:
        """Complains about a word whose file or setting another word chose, with another value."""
        word, key = str(override.input_line), override.get_key_element()
        if key.startswith("hydra."):  # Lightning adds some for the processes that it starts
            return None
        before = self._words.setdefault(key.replace("/", "."), word)
        if word.partition("=")[2] == before.partition("=")[2]:
            return None
        advice = "leave one of them out"
        if key in SEVERAL:
            names = [one.partition("=")[2] for one in (before, word)]
            advice = f"write {key}=[{','.join(names)}] for both"
        return f"{before} was written too; {advice}"

    def options(self, group: str) -> list[str]:
        """Returns the names of a group's files; none where there is no such group."""
        if "." in group or not MAINS[self.command.script].has_group(group):
            return []
        if group not in self._options:
            self._options[group] = self._files.get_group_options(group, ObjectType.CONFIG)
        return self._options[group]


def _text(command: Command) -> str:
    """Returns the main config's text; nothing where there is no such file in its folder."""
    path = command.config_dir / f"{command.config_name}.yaml"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def words_for_hydra(command: Command) -> list[str]:
    """Returns the words as Hydra reads them: `metrics.features=x` is `metrics/features=x`."""
    if not any(may_be_dotted_group(word) for word in command.overrides):
        return list(command.overrides)
    with initialize_config_dir(str(command.config_dir), job_name="forger", version_base="1.3"):
        reading = Reading(GlobalHydra.instance().config_loader(), command)
        return [as_hydra_reads(word, reading.options) for word in command.overrides]


def read_words(command: Command, loader: ConfigLoader) -> Reading:
    """Parses each word alone, so that one mistake hides no other."""
    reading = Reading(loader, command)
    parser = OverridesParser.create(config_loader=loader)
    for word in command.overrides:
        try:
            override = parser.parse_override(word)
        except HydraException as error:
            homes = homes_of(word, reading.groups, reading.options)
            reading.problems.append(ungrammatical(word, error, homes, MAINS[command.script]))
            continue
        key = override.key_or_group
        refused = reading.repeated(override) or misplaced(override)
        if for_hydra(key):
            refused = refused or hydra_words.refusal_of(override)
            if refused is None:
                reading.plain.append(word)
                continue
        refused = refused or MAINS[command.script].refusal_of(word, key, _typed(command.overrides))
        if refused is not None:
            reading.problems.append(f"{word}: {refused}")
            continue
        group = dotted_group(word, reading.options)
        if key in reading.groups or reading.options(key):
            group = key
        if override.is_sweep_override():
            advice = instead(MAINS[command.script], command.script, override, group)
            reading.several.append(f"{word}: several values; {advice}")
        if group is not None:
            _read_group(reading, override, group)
        else:
            reading.settings.append(override)
    return reading


def _typed(words: Sequence[str]) -> set[str]:
    """Returns the top-level names of the settings that are given a value."""
    pairs = (word.partition("=") for word in words)
    return {re.split(r"[./@]", key.lstrip("+~"))[0] for key, _, value in pairs if value != "null"}


def _read_group(reading: Reading, override: Override, group: str) -> None:
    """Refuses words that name no file of their group; keeps the others."""
    key, word = override.key_or_group, str(override.input_line)
    if override.is_delete():
        optional = group in OPTIONAL
        reason = None if optional else instead_of_nothing(group, None, reading.options)
        if reason is None:
            reading.chosen.append([word])
        else:
            reading.problems.append(f"{word}: {reason}")
        return
    added = override.is_add() or override.is_force_add()
    if added and (group in reading.groups or group.replace("/", ".") in GROUPS):
        reading.problems.append(f"{word}: write {word.lstrip('+')}")
        return
    if override.is_sweep_override():
        if not override.is_discrete_sweep():
            allowed = ", ".join(sorted(reading.options(group)))
            reading.problems.append(f"{word}: {key} takes words, {allowed}")
            return
        values = list(override.sweep_iterator())
        lines = [f"{group}={value}" for value in override.sweep_string_iterator()]
    else:
        values = [cast(Any, override.value())]
        lines = [as_hydra_reads(word, reading.options)]
    wrong = [
        text
        for value in values
        for text in wrong_choices(key, group, value, reading.groups, reading.options)
    ]
    reading.problems += wrong
    if not wrong:
        reading.chosen.append(lines)
