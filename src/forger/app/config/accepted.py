"""The values of a config that have passed the check one by one. Owns what a rule may look at.

A rule asks whether values contradict each other; of a value that has been refused nothing follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from forger.app.config.type_checks import UNKNOWN
from forger.app.config.values import Values

Findings: TypeAlias = Iterator[tuple[str, str]]
"""Keys, each with what is wrong with its value and what to write instead."""


class Select:
    """Returns the value of a dotted key; `None` where there is none or it has been refused.

    Args:
        values: of the config.
        problems: what has been refused, by key.
    """

    def __init__(self, values: Values, problems: Mapping[str, str]) -> None:
        self._values, self._problems = values, problems

    def __call__(self, key: str) -> Any:
        """Returns the value."""
        value = self._values.select(key)
        if key in self._problems or value is UNKNOWN:
            return None
        owner = self._values.select(key.rpartition(".")[0])
        argument = isinstance(owner, dict) and "_target_" in owner
        return None if argument and _holds_object(value) else value

    def sound(self, *keys: str) -> bool:
        """Tells whether all is known of these parts: nothing in them has been refused."""
        return not any(
            refused == key or refused.startswith(f"{key}.") or key.startswith(f"{refused}.")
            for key in keys
            for refused in self._problems
        ) and not any(_holds_unknown(self._values.select(key)) for key in keys)


def _holds_object(value: Any) -> bool:
    """Tells whether an argument has objects in it that only a run will build."""
    if isinstance(value, dict):
        return "_target_" in value or any(map(_holds_object, value.values()))
    return isinstance(value, list) and any(map(_holds_object, value))


def _holds_unknown(node: Any) -> bool:
    if isinstance(node, dict):
        objects = "_target_" in node and any(map(_holds_object, node.values()))
        return objects or any(map(_holds_unknown, node.values()))
    if isinstance(node, list):
        return any(map(_holds_unknown, node))
    return node is UNKNOWN
