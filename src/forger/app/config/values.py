"""A config as plain data: every value that can be resolved, and what each setting refers to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from forger.app.config.type_checks import UNKNOWN

# `${a.b}`, `${..b}`, and the first argument of a resolver such as `${oc.select:a.b,1}`
_REFERENCE = re.compile(r"\$\{\s*(?:[\w.]+\s*:\s*)?(?P<dots>\.*)(?P<key>[\w.\[\]-]*)")
_ALONE = re.compile(r"\$\{[\w.]+\}")


@dataclass
class Values:
    """A config's values.

    Attributes:
        plain: the values, resolved; `UNKNOWN` where only a running job can tell.
        raw: the same, unresolved.
        broken: keys whose value cannot be resolved, with the reason.
        read: keys that some other setting refers to, with the keys of those that do.
    """

    plain: dict[str, Any]
    raw: dict[str, Any]
    broken: dict[str, str] = field(default_factory=dict)
    read: dict[str, list[str]] = field(default_factory=dict)

    def reads(self, key: str) -> list[str]:
        """Returns the settings that make this one wrong if they are: `lr: ${..lr}` repeats `lr`.

        A text with more in it than one reference stands for itself, unless it cannot be resolved.
        """
        parts = key.split(".")
        for depth in range(len(parts), 0, -1):
            owner = ".".join(parts[:depth])
            text = value_at(self.raw, owner)
            if isinstance(text, str) and (_ALONE.fullmatch(text) or owner in self.broken):
                return [".".join([read, *parts[depth:]]) for read in _references(owner, text)]
        return []

    def has(self, key: str) -> bool:
        """Tells whether there is such a setting."""
        owner, _, name = key.rpartition(".")
        return name in (value_at(self.raw, owner) or {} if owner else self.raw)

    def is_read(self, key: str) -> bool:
        """Tells whether another setting refers to `key`, to what is in it or to all around it."""
        return any(is_related(target, key) for target in self.read)

    def select(self, key: str) -> Any:
        """Returns the value at a dotted key, or `None`."""
        return value_at(self.plain, key)


Findings: TypeAlias = Iterator[tuple[str, str]]
"""Keys, each with what is wrong with its value and what to write instead."""


class CheckedValues:
    """The values that have passed the check one by one: of a refused one nothing follows.

    Args:
        values: of the config.
        problems: what has been refused, by key.
    """

    def __init__(self, values: Values, problems: Mapping[str, str]) -> None:
        self._values, self._problems = values, problems

    def __call__(self, key: str) -> Any:
        """Returns the value of a key; `None` where there is none or it has been refused."""
        value = self._values.select(key)
        if key in self._problems or value is UNKNOWN:
            return None
        owner = self._values.select(key.rpartition(".")[0])
        argument = isinstance(owner, dict) and "_target_" in owner
        return None if argument and _contains(value, _is_built) else value

    def sound(self, *keys: str) -> bool:
        """Tells whether all is known of these parts: nothing in them has been refused."""
        refused = (one for one in self._problems for key in keys if is_related(one, key))
        parts = [self._values.select(key) for key in keys]
        return next(refused, None) is None and not any(_contains(part, _is_open) for part in parts)


def _contains(node: Any, test: Callable[[Any], bool]) -> bool:
    """Tells whether a test holds for a node or for anything in it."""
    inside = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return test(node) or any(_contains(item, test) for item in inside)


def _is_built(node: Any) -> bool:
    return isinstance(node, dict) and "_target_" in node


def _is_open(node: Any) -> bool:
    """Tells whether only a run will know what a node is: its arguments are objects, for one."""
    objects = _is_built(node) and any(_contains(item, _is_built) for item in node.values())
    return objects or node is UNKNOWN


def value_at(node: Any, key: str) -> Any:
    """Returns what plain data has at a dotted key, or `None`."""
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def joined(key: str, name: Any) -> str:
    """Returns the dotted key of what is called `name` in the part at `key`."""
    return f"{key}.{name}" if key else str(name)


def is_within(key: str, part: str) -> bool:
    """Tells whether a key is that of a part of the config, or of something in it."""
    return key == part or key.startswith(f"{part}.")


def is_related(key: str, other: str) -> bool:
    """Tells whether one of two keys is that of a part which holds the other, or the same."""
    return is_within(key, other) or is_within(other, key)


def read_values(cfg: DictConfig) -> Values:
    """Resolves a config as far as it goes."""
    raw: Any = OmegaConf.to_container(cfg, resolve=False)
    raw.pop("hydra", None)  # which has a schema of its own
    broken: dict[str, str] = {}
    values = Values(_resolved(cfg, raw, "", broken), raw, broken)
    for key, text in _leaves(raw, ""):
        for target in _references(key, text):
            values.read.setdefault(target, []).append(key)
    return values


def _resolved(node: Any, raw: Any, key: str, broken: dict[str, str]) -> Any:
    """Returns a part of the config as it stands in `raw`, its few interpolations resolved."""
    found: dict[Any, Any] = {}
    for name, value in raw.items() if isinstance(raw, dict) else enumerate(raw):
        if isinstance(value, str) and "${" in value:
            found[name] = _referred_to(node, name, joined(key, name), broken)
        elif isinstance(value, (dict, list)):
            found[name] = _resolved(node._get_node(name), value, joined(key, name), broken)
        else:
            found[name] = value
    return found if isinstance(raw, dict) else list(found.values())


def _referred_to(node: Any, name: Any, key: str, broken: dict[str, str]) -> Any:
    try:
        value = node[name]
        if not isinstance(value, (DictConfig, ListConfig)):
            return value
        raw: Any = OmegaConf.to_container(value, resolve=False)
        return _resolved(value, raw, key, broken) if isinstance(raw, (dict, list)) else raw
    except Exception as error:  # a resolver may raise anything
        text = str(node._get_node(name)._value())
        if "${hydra:" not in text:  # known once a job runs
            broken[key] = f"{text}: {reason_of(error)}"
        return UNKNOWN


def reason_of(error: Exception) -> str:
    """Says why an interpolation cannot be resolved, without a parser's jargon."""
    told = isinstance(error, (OmegaConfBaseException, ValueError))
    lines = str(error).strip().splitlines() if told else []
    if not lines or " expecting " in lines[0] or "no viable alternative" in lines[0]:
        return "cannot be resolved; write ${<section>.<setting>}"
    return re.sub(r"^\w+ raised while resolving interpolation: ", "", lines[0]).strip('"')


def _leaves(node: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, (dict, list)):
        for name, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _leaves(value, joined(key, name))
    elif isinstance(node, str) and "${" in node:
        yield key, node


def _references(key: str, text: str) -> Iterator[str]:
    parts = key.split(".")
    for match in _REFERENCE.finditer(text):
        dots, name = len(match["dots"]), re.sub(r"\[(\w+)\]", r".\1", match["key"])
        if dots:
            yield ".".join([*parts[: max(0, len(parts) - dots)], *filter(None, name.split("."))])
        elif name:
            yield name
