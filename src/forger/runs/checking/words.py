"""The words of a command line, sorted by what they do and held against the config files' names.

Owns mistakes that need no config to be seen: a word that cannot be read, a choice that no file has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from forger.runs.checking.messages import choice, given

# Groups of which several files can be chosen at once; for the others the last would win in silence.
_SEVERAL = {"logger", "callbacks", "experiment", "debug"}


@dataclass(frozen=True)
class Command:
    """What was typed: folder and name of the main config, the words, and whether with -m."""

    folder: Path
    config: str
    words: list[str]
    multirun: bool = False
    extra_folder: str | None = None


@dataclass
class Reading:
    """The words of one command, sorted.

    Attributes:
        loader: finds config files.
        config: the name of the main config.
        groups: the words that choose files.
        search_path: words that add folders of config files.
        several: complaints about several values, right in a sweep alone.
        problems: what is wrong, one line each.
        chosen: the alternatives of each word that chooses a file.
        plain: words for Hydra itself.
        settings: all the others.
    """

    loader: ConfigLoader
    config: str
    groups: list[str]
    search_path: list[str] = field(default_factory=list)
    several: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    chosen: list[list[str]] = field(default_factory=list)
    plain: list[str] = field(default_factory=list)
    settings: list[Override] = field(default_factory=list)
    _options: dict[str, list[str]] = field(default_factory=dict)

    def options(self, group: str) -> list[str]:
        """Returns the names of a group's files; none where there is no such group."""
        if "." in group:
            return []
        if group not in self._options:
            self._options[group] = self.loader.get_group_options(
                group, config_name=self.config, overrides=self.search_path
            )
        return self._options[group]


def read_words(command: Command, loader: ConfigLoader) -> Reading:
    """Parses each word alone, so that one mistake hides no other."""
    groups = [name for name in loader.list_groups("") if name != "hydra"]
    reading = Reading(loader, command.config, groups)
    reading.search_path += [word for word in command.words if word.startswith("hydra.searchpath=")]
    parser = OverridesParser.create(config_loader=loader)
    if command.extra_folder is not None:
        word = f"hydra.searchpath=['{Path(command.extra_folder).absolute()}']"
        reading.search_path.append(word)
        reading.plain.append(word)
    for word in command.words:
        try:
            override = parser.parse_override(word)
        except HydraException as error:
            reading.problems.append(_ungrammatical(reading, word, error))
            continue
        key = override.key_or_group
        if key.startswith(("hydra.", "hydra/")) or key == "hydra":
            reading.plain.append(word)
            continue
        if override.is_sweep_override():
            one = key in reading.groups and key not in _SEVERAL
            how = "add -m for a run of each" + ("" if one else f", or write {key}=[...] for a list")
            reading.several.append(f"{word}: several values; {how}")
        if key in reading.groups or reading.options(key) or override.package is not None:
            _read_group(reading, override)
        else:
            reading.settings.append(override)
    return reading


def _ungrammatical(reading: Reading, word: str, error: Exception) -> str:
    homes = _groups_with(reading, word)
    if homes:
        return f"{word}: is not a setting; write {homes[0]}={word}"
    if "=" not in word and not word.startswith("~"):
        return f"{word}: is not a setting; write <setting>=<value>"
    reason = str(error).strip().splitlines()[0]
    return f"{word}: cannot be read ({reason}); quote a value with any of ,:[]{{}}()=$ or spaces"


def _groups_with(reading: Reading, word: Any) -> list[str]:
    if not isinstance(word, str):
        return []
    return [group for group in reading.groups if word in reading.options(group)]


def _read_group(reading: Reading, override: Override) -> None:
    """Refuses words that name no file of their group; keeps the others."""
    group, word = override.key_or_group, str(override.input_line)
    options = reading.options(group)
    if override.is_delete() or override.package is not None:
        reading.chosen.append([word])
        return
    if override.is_add() and group in reading.groups:
        reading.problems.append(f"{word}: write {word.lstrip('+')}")
        return
    if override.is_sweep_override():
        if not override.is_discrete_sweep():
            reading.problems.append(f"{word}: {group} takes words, {', '.join(sorted(options))}")
            return
        values = list(override.sweep_iterator())
        lines = [f"{group}={value}" for value in override.sweep_string_iterator()]
    else:
        values, lines = [cast(Any, override.value())], [word]
    wrong = [text for value in values for text in _wrong_choices(reading, group, value, options)]
    reading.problems += wrong
    if not wrong:
        reading.chosen.append(lines)


def _wrong_choices(
    reading: Reading, group: str, value: Any, options: Iterable[str]
) -> Iterable[str]:
    names = value if isinstance(value, list) else [value]
    if len(names) > 1 and group not in _SEVERAL:
        yield f"{given(group, value)}: takes one word. Allowed: {', '.join(sorted(options))}"
        return
    for name in names:
        if isinstance(name, str) and name in options:
            continue
        homes = _groups_with(reading, name)
        if isinstance(name, dict):
            yield f"{given(group, name)}: must name a file; write {group}.<setting>=<value>"
        elif homes:
            yield (
                f"{given(group, name)}: no such choice, but {homes[0]}={name} is one. "
                f"Allowed: {', '.join(sorted(options))}"
            )
        else:
            yield f"{given(group, name)}: no such choice" + choice(str(name), options)
