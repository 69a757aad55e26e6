"""Words that choose a file of a group: how they are spelled, and which files there are.

Owns one word at a time; `words` sorts those of a command.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from forger.runs.checking.messages import choice, given

Options: TypeAlias = Callable[[str], list[str]]
"""Returns the names of a group's files; none where there is no such group."""

# Groups of which several files can be chosen at once; for the others the last would win in silence.
SEVERAL = frozenset({"logger", "callbacks", "experiment", "debug"})

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
    names = value if isinstance(value, list) else [value]
    allowed = ", ".join(sorted(options(group)))
    if len(names) > 1 and group not in SEVERAL:
        yield f"{given(key, value)}: takes one word. Allowed: {allowed}"
        return
    for name in names:
        if isinstance(name, str) and name in options(group):
            continue
        homes = homes_of(name, groups, options)
        if isinstance(name, dict):
            yield f"{given(key, name)}: must name a file; write {key}.<setting>=<value>"
        elif homes:
            yield (
                f"{given(key, name)}: no such choice, but {homes[0]}={name} is one"
                + (f". Allowed: {allowed}" if allowed else "")
            )
        else:
            yield f"{given(key, name)}: no such choice" + choice(str(name), options(group))
