"""Splits a command line into flags and words, and says what to write for settings typed otherwise.

Tools for sweeps write `--optimizer.lr=0.001`, people `seed = 3` or `{'lr': 0.001}`.
"""

from __future__ import annotations

import ast
import json
import re
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forger.app.config.messages import as_words, typed
from forger.app.config.paths import expanded

_KEY = r"(?:\+\+?)?[A-Za-z_]\w*(?:[./][\w-]+)*"
_FOLDERS = ("--config-dir", "-cd", "--config-path", "-cp")
_NUMBER = re.compile(r"-\.?\d.*")


@dataclass
class Arguments:
    """The arguments of one command.

    Attributes:
        flags: of Hydra, with their values.
        words: all others, as they were meant.
        problems: what was typed otherwise and what to write, each with the words that it means.
    """

    flags: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    problems: list[tuple[str, list[str]]] = field(default_factory=list)

    @property
    def all(self) -> list[str]:
        """Flags first: argparse takes no words after flags after words."""
        return [*self.flags, *self.words]


def read_arguments(arguments: Sequence[str], parser: ArgumentParser) -> Arguments:
    """Sorts arguments, as the parser of Hydra's flags knows them.

    Args:
        arguments: as the shell gave them.
        parser: Hydra's.
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
        found.words += meant or [shown]
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
        yield from as_words(key, value)
