"""A config as plain data: every value that can be resolved, and what each setting refers to.

Owns interpolation; what a value may be is for `check`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from forger.app.config.kinds import UNKNOWN

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
            place = ".".join(parts[:depth])
            text = _at(self.raw, place)
            if isinstance(text, str) and (_ALONE.fullmatch(text) or place in self.broken):
                return [".".join([read, *parts[depth:]]) for read in _references(place, text)]
        return []

    def has(self, key: str) -> bool:
        """Tells whether there is such a setting."""
        owner, _, name = key.rpartition(".")
        return name in (_at(self.raw, owner) or {} if owner else self.raw)

    def is_read(self, key: str) -> bool:
        """Tells whether another setting refers to `key`, to what is in it or to all around it."""
        return any(
            target == key or target.startswith(f"{key}.") or key.startswith(f"{target}.")
            for target in self.read
        )

    def select(self, key: str) -> Any:
        """Returns the value at a dotted key, or `None`."""
        return _at(self.plain, key)


def read_values(cfg: DictConfig) -> Values:
    """Resolves a config as far as it goes."""
    raw = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(raw, dict)
    broken: dict[str, str] = {}
    plain: Any = _filled(cfg, raw, "", broken)
    values = Values(plain, {str(key): value for key, value in raw.items()}, broken)
    for key, text in _leaves(raw, ""):
        for target in _references(key, text):
            values.read.setdefault(target, []).append(key)
    return values


def _filled(node: Any, raw: Any, key: str, broken: dict[str, str]) -> Any:
    """Returns a part of the config as it stands in `raw`, its few interpolations resolved."""
    pairs = raw.items() if isinstance(raw, dict) else enumerate(raw)
    found: dict[Any, Any] = {}
    for name, value in pairs:
        if isinstance(value, str) and "${" in value:
            found[name] = _resolve_one(node, name, _join(key, name), broken)
        elif isinstance(value, (dict, list)):
            found[name] = _filled(node._get_node(name), value, _join(key, name), broken)
        else:
            found[name] = value
    return found if isinstance(raw, dict) else list(found.values())


def _resolve(node: Any, key: str, broken: dict[str, str]) -> Any:
    if not isinstance(node, (DictConfig, ListConfig)):
        return node
    if node._is_none() or node._is_missing():
        return None if node._is_none() else "???"
    names = list(node.keys()) if isinstance(node, DictConfig) else list(range(len(node)))
    found = {name: _resolve_one(node, name, _join(key, name), broken) for name in names}
    return found if isinstance(node, DictConfig) else list(found.values())


def _resolve_one(node: Any, name: Any, key: str, broken: dict[str, str]) -> Any:
    if OmegaConf.is_missing(node, name):
        return "???"
    try:
        return _resolve(node[name], key, broken)
    except Exception as error:  # a resolver may raise anything
        raw = str(node._get_node(name)._value())
        if "${hydra:" not in raw:  # known once a job runs
            broken[key] = f"{raw}: {reason_of(error)}"
        return UNKNOWN


def reason_of(error: Exception) -> str:
    """Words why an interpolation cannot be resolved, without a parser's jargon."""
    told = isinstance(error, (OmegaConfBaseException, ValueError))
    lines = str(error).strip().splitlines() if told else []
    if not lines or " expecting " in lines[0] or "no viable alternative" in lines[0]:
        return "cannot be resolved; write ${<section>.<setting>}"
    return re.sub(r"^\w+ raised while resolving interpolation: ", "", lines[0]).strip('"')


def _leaves(node: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _leaves(value, _join(key, name))
    elif isinstance(node, list):
        for place, value in enumerate(node):
            yield from _leaves(value, _join(key, place))
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


def _at(node: Any, key: str) -> Any:
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def _join(key: str, name: Any) -> str:
    return f"{key}.{name}" if key else str(name)
