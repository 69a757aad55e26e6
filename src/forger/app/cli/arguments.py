"""Reads a command line once, and says what to write for settings that were typed otherwise.

Tools for sweeps write `--optimizer.lr=0.001`, people `seed = 3` or `{'lr': 0.001}`.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser  # the very flags that Hydra documents

from forger.app.config.command import Command, expanded, with_path_quoted
from forger.app.config.messages import as_overrides, setting, typed
from forger.app.config.sections import SCRIPTS
from forger.app.run import resume
from forger.errors import ConfigError

_KEY = r"(?:\+\+?)?[A-Za-z_]\w*(?:[./][\w-]+)*"
_FOLDERS = ("--config-dir", "-cd", "--config-path", "-cp")
_NUMBER = re.compile(r"-\.?\d.*")
_SHOW = ("help", "hydra_help", "cfg", "info", "shell_completion")


@dataclass(frozen=True)
class Typed:
    """A command line as it was read.

    Attributes:
        command: what it asks for.
        flags: Hydra's, as its own parser gives them, the overrides among them.
        parser: of these flags.
    """

    command: Command
    flags: Namespace
    parser: ArgumentParser

    @property
    def only_shows(self) -> bool:
        """Whether the flags ask for help or the config alone, and so for Hydra's own answer."""
        return any(getattr(self.flags, flag) for flag in _SHOW)


def read_command(
    script: str, configs: Path, arguments: Sequence[str], program: tuple[str, ...]
) -> Typed:
    """Reads a command line.

    Args:
        script: `train`, `evaluate` or `generate`.
        configs: the folder of config files, which `--config-path` replaces.
        arguments: as the shell gave them.
        program: starts this program again.

    Raises:
        ConfigError: `run=last` names no run, or a flag is refused.
    """
    parser = get_args_parser()
    read = read_arguments(arguments, parser)
    flags = parser.parse_args(read.flags)
    if flags.experimental_rerun is not None:
        raise ConfigError(
            "--experimental-rerun: reads a pickle, and loading one can run code; to go on with a"
            " run, write resume=<run folder>"
        )
    if flags.config_path is not None:
        here = Path(flags.config_path).expanduser().absolute()
        configs = here if here.is_dir() else Path(configs.parent, flags.config_path)
        flags.config_path = str(configs.absolute())
    sweep = flags.multirun or "hydra.mode=MULTIRUN" in read.overrides
    flags.overrides = [with_path_quoted(one) for one in read.overrides]
    if "run" in SCRIPTS[script].settings and "run=last" in flags.overrides:
        newest = setting("run", resume.newest_run(configs.absolute()))
        flags.overrides = [newest if one == "run=last" else one for one in flags.overrides]
    command = Command(
        config_dir=configs.absolute(),
        config_name=flags.config_name or script,
        overrides=tuple(flags.overrides),
        multirun=sweep,
        extra_config_dir=flags.config_dir,
        script=script,
        misspelt=tuple((text, tuple(meant)) for text, meant in read.problems),
        program=program,
        config_flags=tuple(_config_flags(flags)),
    )
    return Typed(command, flags, parser)


def _config_flags(flags: Namespace) -> Iterator[str]:
    """Yields the flags that say which config is meant, each with its value."""
    for name in ("config_name", "config_path", "config_dir"):
        if (value := getattr(flags, name)) is not None:
            yield from (f"--{name.replace('_', '-')}", value)


def program_again(subcommand: Sequence[str] = ()) -> tuple[str, ...]:
    """Returns the command that starts this program again, before its arguments."""
    spec = sys.modules["__main__"].__spec__
    start = [str(Path(sys.argv[0]).absolute())] if spec is None else ["-m", spec.name]
    return (sys.executable, *start, *subcommand)


@dataclass
class Arguments:
    """The arguments of one command, sorted.

    Attributes:
        flags: of Hydra, with their values.
        overrides: all others, as they were meant.
        problems: what was typed otherwise and what to write, each with the overrides that it means.
    """

    flags: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    problems: list[tuple[str, list[str]]] = field(default_factory=list)


def read_arguments(arguments: Sequence[str], parser: ArgumentParser) -> Arguments:
    """Sorts arguments, which may stand in any order.

    Args:
        arguments: as the shell gave them.
        parser: Hydra's, of its flags.
    """
    found, rest = Arguments(), list(arguments)
    words: list[str] = []
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("-") or argument == "-":
            words.append(argument)
            continue
        if argument == "--":
            continue
        count = _values_of(argument, rest, parser)
        if count is not None:
            values = [rest.pop(0) for _ in range(count)]
            found.flags += _at_home(argument, values)
            continue
        following = rest.pop(0) if "=" not in argument and rest and _is_value(rest[0]) else None
        key, given, value = argument.lstrip("-").partition("=")
        word = f"{key.replace('-', '_')}={value if given else following or 'true'}"
        shown = argument if following is None else f"{argument} {following}"
        text = f"{shown}: a setting has no dashes; write {typed(word)}"
        found.problems.append((text, [word]))
        words.append(word)
    for shown, meant in _joined(words):
        if meant:
            found.problems.append((f"{shown}: write {typed(*meant)}", meant))
        found.overrides += meant or [shown]
    return found


def _values_of(argument: str, rest: Sequence[str], parser: ArgumentParser) -> int | None:
    """Returns how many of the following arguments belong to a flag; `None`: it is none."""
    name, given, _ = argument.partition("=")
    action = parser._option_string_actions.get(name)
    short = parser._option_string_actions.get(argument[:2])  # -cjob
    if action is None:
        attached = short is not None and short.nargs is None and argument[1] != "-"
        return 0 if attached and not given else None
    if given:
        return 0 if action.nargs != 0 else None
    if action.nargs == "?":
        return int(bool(rest) and rest[0] in (action.choices or ()))
    return int(action.nargs is None and bool(rest))


def _is_value(argument: str) -> bool:
    bare = "=" not in argument or argument.startswith(("[", "{", "'", '"'))
    return bare and (not argument.startswith("-") or _NUMBER.fullmatch(argument) is not None)


def _at_home(flag: str, values: list[str]) -> list[str]:
    """Expands `~` in the folders of configs, which a shell leaves after an equals sign."""
    name, given, value = flag.partition("=")
    if name not in _FOLDERS:
        return [flag, *values]
    if given:
        return [f"{name}={expanded(value)}"]
    return [flag, *map(expanded, values)]


def _joined(words: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yields what was typed, and the words that it should have been; none where it is right."""
    rest = list(words)
    while rest:
        count, meant = _meant(rest)
        yield " ".join(rest[:count]), meant
        del rest[:count]


def _meant(rest: list[str]) -> tuple[int, list[str]]:
    """Returns how many words belong together, and what was meant if they are wrong."""
    word, following = rest[0], [*rest[1:3], "", ""]
    bare = bool(following[0]) and "=" not in following[0]
    if re.fullmatch(_KEY, word) and following[0] == "=" and following[1]:  # seed = 3
        return 3, [f"{word}={following[1]}"]
    if re.fullmatch(_KEY, word) and re.match("=.", following[0]):  # seed =3
        return 2, [word + following[0]]
    if bare and re.fullmatch(f"{_KEY}[=:]", word):  # seed= 3, seed: 3
        return 2, [f"{word[:-1]}={following[0]}"]
    if len(word) > 2 and word[0] == word[-1] and word[0] in "'\"" and "=" in word:  # 'seed=3'
        return 1, [word[1:-1]]
    spaced = re.fullmatch(rf"({_KEY})(?:\s+=\s*|:\s*(?!//))(\S.*)", word)  # seed:3, 'seed = 3'
    if spaced is not None and not Path(word).exists():
        return 1, [f"{spaced[1]}={spaced[2]}"]
    key, _, value = word.rpartition("=") if word.startswith("{") else word.partition("=")
    flat = list(_flat(key, value or word)) if "{" in word and re.search("['\"]", word) else []
    if flat and (key or word.startswith("{")):  # {'lr': 3}, optimizer={'lr': 3}
        return 1, flat
    if re.fullmatch(rf"{_KEY}=[^'\"\[{{]*[^,],", word):  # seed=3, as in a list
        return 1, [word[:-1]]
    return 1, []


def _flat(key: str, text: str) -> Iterator[str]:
    """Yields a word for each setting of a mapping in Python's or JSON's spelling."""
    value: Any = None
    for read in (ast.literal_eval, json.loads):
        try:
            value = read(text)
            break
        except (ValueError, SyntaxError):
            continue
    if isinstance(value, dict):
        yield from as_overrides(key, value)
