"""A config as plain data: every value that can be resolved, and what each setting refers to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from forger.app.config.type_checks import UNKNOWN

# `${a.b}`, `${..b}`, and the first argument of a resolver such as `${oc.select:a.b,1}`
_REFERENCE = re.compile(r"\$\{\s*(?:[\w.]+\s*:\s*)?(\.*)([\w.-]*)")
_ALONE = re.compile(r"\$\{[\w.]+\}")

# Keys, each with what is wrong with its value and what to write instead
Findings: TypeAlias = Iterator[tuple[str, str]]


@dataclass
class Values:
    """A config's values.

    Attributes:
        plain: the values, resolved; `UNKNOWN` where only a running job can tell.
        raw: the same, unresolved.
        broken: keys whose value cannot be resolved, with the reason.
        targets: keys that some setting refers to.
    """

    plain: dict[str, Any]
    raw: dict[str, Any]
    broken: dict[str, str]
    targets: set[str]

    def reads(self, key: str) -> list[str]:
        """Returns the settings that make this one wrong if they are: `lr: ${..lr}` repeats `lr`."""
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
        return any(is_related(target, key) for target in self.targets)

    def select(self, key: str) -> Any:
        """Returns the value at a dotted key, or `None`."""
        return value_at(self.plain, key)


class CheckedValues:
    """The values that have passed the check one by one: of a refused one nothing follows."""

    def __init__(self, values: Values, problems: Mapping[str, str]) -> None:
        self._values, self._problems = values, problems

    def __call__(self, key: str) -> Any:
        """Returns the value of a key; `None` where there is none or it has been refused."""
        value = self._values.select(key)
        if key in self._problems or value is UNKNOWN:
            return None
        is_argument = _is_built(self._values.select(key.rpartition(".")[0]))
        is_object = is_argument and any(_is_built(one) for _, one in [("", value), *leaves(value)])
        return None if is_object else value

    def sound(self, *keys: str) -> bool:
        """Tells whether all is known of these settings: nothing in them has been refused."""
        refused = any(is_related(one, key) for one in self._problems for key in keys)
        values = [value for key in keys for _, value in leaves({"": self._values.select(key)})]
        return not refused and not any(value is UNKNOWN or _is_built(value) for value in values)


def _is_built(node: Any) -> bool:
    return isinstance(node, dict) and "_target_" in node


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


def leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yields all that is in plain data with its dotted key, sections and items of lists too."""
    if isinstance(node, (dict, list)):
        for name, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield joined(key, name), value
            yield from leaves(value, joined(key, name))


def as_written(cfg: DictConfig) -> dict[str, Any]:
    """Returns a config as plain data, unresolved, Hydra's own part left out."""
    return {str(name): _as_written(cfg._get_node(name)) for name in cfg if name != "hydra"}


def _as_written(node: Any) -> Any:
    is_part = isinstance(node, (DictConfig, ListConfig))
    return OmegaConf.to_container(node, resolve=False) if is_part else node._value()


def read_values(cfg: DictConfig) -> Values:
    """Resolves a config as far as it goes, Hydra's own part left out."""
    raw, broken = as_written(cfg), dict[str, str]()
    texts = [(key, value) for key, value in leaves(raw) if isinstance(value, str)]
    targets = {target for key, text in texts for target in _references(key, text)}
    return Values(_resolved(cfg, raw, "", broken), raw, broken, targets)


def _resolved(
    node: Any, raw: Any, key: str, broken: dict[str, str], around: tuple[Any, ...] = ()
) -> Any:
    """Returns what a part of the config comes to; `raw` is that part as written."""
    if not isinstance(raw, (dict, list)):
        return raw
    if any(node is one for one in around):
        raise ValueError  # a setting refers to what it is a part of
    found: dict[Any, Any] = {}
    for name, value in raw.items() if isinstance(raw, dict) else enumerate(raw):
        path, inner = joined(key, name), (*around, node)
        if not (isinstance(value, str) and "${" in value):
            found[name] = _resolved(node._get_node(name), value, path, broken, inner)
            continue
        try:
            meant = node[name]
            is_part = isinstance(meant, (DictConfig, ListConfig))
            text = _as_written(meant) if is_part else meant
            found[name] = _resolved(meant, text, path, broken, inner)
        except Exception as error:  # a resolver may raise anything
            found[name] = UNKNOWN
            if "${hydra:" not in value:  # known once a job runs
                broken[path] = f"{value}: {reason_of(error)}"
    return found if isinstance(raw, dict) else list(found.values())


def reason_of(error: Exception) -> str:
    """Says why an interpolation cannot be resolved, without a parser's jargon."""
    told = isinstance(error, (OmegaConfBaseException, ValueError))
    lines = str(error).strip().splitlines() if told else []
    if not lines or " expecting " in lines[0] or "no viable alternative" in lines[0]:
        return "cannot be resolved; write ${<section>.<setting>}"
    return re.sub(r"^\w+ raised while resolving interpolation: ", "", lines[0]).strip('"')


def _references(key: str, text: str) -> Iterator[str]:
    for dots, name in _REFERENCE.findall(text):
        around = key.split(".")[: -len(dots)] if dots else []
        if dots or name:
            yield ".".join(filter(None, [*around, name]))
