"""Words that choose a file of a group: how they are spelled, and which files there are.

Owns one word at a time; `words` sorts those of a command.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from forger.app.config.messages import as_words, choice, given, typed

Options: TypeAlias = Callable[[str], list[str]]
"""Returns the names of a group's files; none where there is no such group."""

# Groups of which several files can be chosen at once; for the others the last would win in silence.
SEVERAL = frozenset({"logger", "callbacks", "experiment", "debug"})

# Groups of which no file need be chosen.
OPTIONAL = frozenset({"experiment", "hparams_search", "debug"})
_NOTHING = ("none", "null", "off", "no", "false", "disabled", "")
_INSTEAD_OF_NOTHING = {
    "logger": "CSV is always on, metrics.csv in the run folder; leave logger out for no tracker",
    "callbacks": "write callbacks.<name>=null for each that is to be left out",
    "schedule": "write schedule=constant",
    **dict.fromkeys(OPTIONAL, "leave it out"),
}

_DOTTED = re.compile(
    r"(?:\+\+)?(?P<key>(?!hydra\.)[A-Za-z_]\w*(?:\.\w+)+)=[A-Za-z_\['\"].*", re.DOTALL
)


def dotted_group(word: str, options: Options) -> str | None:
    """Returns the group that a word such as `metrics.features=inception` chooses a file of.

    A dotted key is one if there are files under its name with slashes: `metrics/features`. A number
    or a value in braces is no file's name.
    """
    match = _DOTTED.fullmatch(word)
    if match is None:
        return None
    group = match["key"].replace(".", "/")
    return group if options(group) else None


def may_be_dotted_group(word: str) -> bool:
    """Tells whether `dotted_group` needs to look."""
    return _DOTTED.fullmatch(word) is not None


def as_hydra_reads(word: str, options: Options) -> str:
    """Returns a word as Hydra spells it: `metrics/features=inception`."""
    group = dotted_group(word, options)
    return word if group is None else f"{group}={word.partition('=')[2]}"


def homes_of(name: Any, groups: Iterable[str], options: Options) -> list[str]:
    """Returns the groups that have a file of that name."""
    return [group for group in groups if isinstance(name, str) and name in options(group)]


def instead_of_nothing(group: str, name: Any, options: Options) -> str | None:
    """Says what to write instead of a word for no choice; `None`: it is no such word."""
    if isinstance(name, str) and name.lower() not in _NOTHING:
        return None
    if name not in (None, False, []) and not isinstance(name, str):
        return None
    return f"write {group}=none" if "none" in options(group) else _INSTEAD_OF_NOTHING.get(group)


def wrong_choices(
    key: str, group: str, value: Any, groups: Iterable[str], options: Options
) -> Iterator[str]:
    """Yields a complaint for each name that no file of the group has.

    Args:
        key: the group as it was typed.
        group: the group.
        value: a name, or a list of them.
        groups: all groups, for hints.
        options: what files there are.
    """
    names = value if isinstance(value, list) and value else [value]
    allowed = ", ".join(sorted(options(group)))
    if len(names) > 1 and group not in SEVERAL:
        yield f"{given(key, value)}: takes one word. Allowed: {allowed}"
        return
    for name in names:
        if isinstance(name, str) and name in options(group):
            continue
        if (reason := instead_of_nothing(group, name, options)) is not None:
            yield f"{given(key, name)}: {reason}"
            continue
        homes = homes_of(name, groups, options)
        if isinstance(name, dict):
            yield f"{given(key, name)}: must name a file; write {typed(*as_words(key, name))}"
        elif homes:
            yield (
                f"{given(key, name)}: no such choice, but {homes[0]}={name} is one"
                + (f". Allowed: {allowed}" if allowed else "")
            )
        else:
            yield f"{given(key, name)}: no such choice" + choice(str(name), options(group))
