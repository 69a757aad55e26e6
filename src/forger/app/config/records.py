"""Finds what the config of a record names that its reader has not trusted.

A checkpoint, a run folder and a sweep's files may be anybody's, and building what a config names
runs it. So a record may name classes alone, of the kind that belongs in their place, from our own
package and torch's, or from what the user names in `trust`. A name is judged first by the source of
what it stands for; what passes is imported, and judged once more as what it really is.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin, get_type_hints

from forger.app.config.messages import given
from forger.app.config.sections import SCRIPTS
from forger.app.config.signatures import derives
from forger.app.config.source import NotFoundError, TargetError, import_target, locate
from forger.app.config.trust import OWN, PACKAGES, is_in_use, is_named, not_where, says_where

# Where all of them would be too many: classes of the right kind that load or fetch what they like.
_NARROWER = {
    **{"model": (OWN, "torch", "torchvision"), "optimizer": ("torch",)},
    **dict.fromkeys(("trainer", "callbacks", "logger"), (OWN, "lightning")),
    **dict.fromkeys(
        ("task", "condition", "augment", "data", "loss", "schedule", "metrics"), (OWN,)
    ),
}
_OUTSIDE = re.compile(r"~|/|[A-Za-z]:[\\/]|(.*[\\/])?\.\.([\\/]|$)|.*://", re.DOTALL)


def find_untrusted(
    config: dict[str, Any],
    trust: Sequence[str] = (),
    *,
    typed: Iterable[str] = (),
    build: Iterable[str] = (),
    names_only: bool = False,
    imports: bool = True,
) -> list[str]:
    """Returns what a record may not bring, one line each.

    Args:
        config: of the record, as plain containers, before anything in it is resolved.
        trust: modules and classes that the user names, and paths and addresses.
        typed: keys whose values are the user's.
        build: parts that are to be built, such as `model.generator`; `""` is all of them.
        names_only: whether to leave out what is missing, and where things are written or sent.
        imports: whether to import what is to be built, once its name has passed.
    """
    record = _Record(tuple(trust), tuple(typed), tuple(build), names_only, imports)
    record.check("", config)
    return list(record.problems.values())


@dataclass
class _Record:
    """One walk through the config of a record."""

    trust: tuple[str, ...]
    typed: tuple[str, ...]
    build: tuple[str, ...]
    names_only: bool
    imports: bool
    problems: dict[str, str] = field(default_factory=dict)

    def refuse(self, key: str, value: Any, reason: str) -> None:
        self.problems.setdefault(key, f"{given(key, value)}: {reason}")

    def check(self, key: str, value: Any, among: tuple[type, ...] | None = None) -> None:
        """Checks a part; `among` are the classes that the argument takes of which it is part."""
        if _below(key, self.typed):
            return
        if isinstance(value, dict) and "_target_" in value:
            self.check_target(key, value, among)
        elif isinstance(value, (dict, list, tuple)):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for name, item in items:
                self.check(f"{key}.{name}" if key else str(name), item, among)
        elif isinstance(value, str) and "${" in value:
            self.refuse(key, value, "a record holds values, and nothing that reads others")

    def check_target(self, key: str, node: dict[str, Any], among: tuple[type, ...] | None) -> None:
        name, at = node["_target_"], f"{key}._target_"
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            self.refuse(at, name, "must be a dotted name, such as package.module.Class")
            return
        typed, built = _below(at, self.typed), "" in self.build or _below(key, self.build)
        vouched = typed or name in self.trust
        problem = None if vouched else self.wrong_name(key, name, among is not None, built)
        hints: dict[str, Any] = {}
        if problem is None and built and self.imports:
            problem, hints = self.wrong_import(key, name, among, vouched)
        if problem is not None:
            self.refuse(at, name, problem)
            return
        for argument, value in node.items():
            path = f"{key}.{argument}"
            if argument == "_target_":
                continue
            self.check(path, value, tuple(_classes(hints.get(argument))))
            vouched = typed or is_named(name, self.trust) or _below(path, self.typed)
            if built and self.imports and not self.names_only and not vouched:
                self.check_argument(path, value, is_named(name, [OWN]), key)

    def check_argument(self, key: str, value: Any, ours: bool, part: str) -> None:
        """Checks an argument of a class that the user has not vouched for."""
        name = key.rpartition(".")[2]
        partial = name == "_partial_" and SCRIPTS["train"].section(part).partial
        if name in ("_args_", "_partial_") and not partial:
            self.refuse(key, value, "has no place in a record")
        elif name in ("_partial_", "_convert_", "_recursive_") or value is None:
            return
        elif says_where(name, ours):
            kept = name == "local_dir" and is_in_use(name, str(value))
            if not kept and not is_named(str(value), self.trust):
                self.refuse(key, value, not_where(str(value)))
        elif not ours:
            for text in _texts(value):
                if _OUTSIDE.match(text) and not is_named(text, self.trust):
                    self.refuse(key, text, not_where(text))

    def wrong_name(self, key: str, name: str, nested: bool, built: bool) -> str | None:
        """Returns what is wrong with a name, by its package and its source."""
        trusted, base = is_named(name, self.trust), SCRIPTS["train"].section(key).base
        if not nested and base is None:
            return "no object belongs in this place"
        allowed = PACKAGES if nested else _NARROWER.get(key.partition(".")[0], PACKAGES)
        if not trusted and (name.partition(".")[0] not in allowed or "._" in name):
            return (
                f"a record may name classes of {', '.join(allowed)} here; if you know what this"
                f" is, write trust=[{name.rpartition('.')[0] or name}]"
            )
        try:
            found = locate(name)
        except NotFoundError as error:
            known = name.partition(".")[0] in PACKAGES or self.names_only or not built
            return None if known else f"{error}{_elsewhere(name)}"  # else what builds it says so
        if found is None:
            return None if trusted else f"is no class that its source shows; {_exactly(name)}"
        if not isinstance(found.node, ast.ClassDef):
            return f"is no class, and a record may name nothing else; {_exactly(name)}"
        if not trusted and not is_named(found.full_name, PACKAGES):
            return f"is {found.full_name}; {_exactly(name)}"
        wrong = not nested and base and not derives(found, base)
        return f"must derive from {base}" if wrong else None

    def wrong_import(
        self, key: str, name: str, among: tuple[type, ...] | None, any_callable: bool
    ) -> tuple[str | None, dict[str, Any]]:
        """Imports what a name stands for: what is wrong with it, and the hints of its arguments."""
        try:
            found = import_target(name)
        except TargetError as error:
            if is_named(name, [OWN]):
                return None, {}  # of another version: what builds it says which
            gone = isinstance(error.__cause__, (ImportError, AttributeError))
            return f"{error}{_elsewhere(name) if gone else ''}", {}
        if any_callable:
            return None, _hints(found)
        if not isinstance(found, type):
            return f"is no class, and a record may name nothing else; {_exactly(name)}", {}
        home = f"{found.__module__}.{found.__qualname__}"
        if not is_named(home, [*PACKAGES, *self.trust]):
            return f"is {home}; if you know what this is, write trust=[{found.__module__}]", {}
        base = SCRIPTS["train"].section(key).base if among is None else None
        if base and not issubclass(found, import_target(base)):
            return f"must derive from {base}", {}
        if among is not None and not issubclass(found, among):
            return f"no such object belongs in this place; {_exactly(name)}", {}
        return None, _hints(found)


def _exactly(name: str) -> str:
    return f"if you know what this is, write trust=[{name}]"


def _elsewhere(name: str) -> str:
    return f"; if it has moved, write moved={{{name}:<its new place>}}"


def _below(key: str, parts: Iterable[str]) -> bool:
    return any(key == part or key.startswith(f"{part}.") for part in parts)


def _texts(value: Any) -> Iterator[str]:
    """Yields the texts in an argument, but those of objects in it, which are checked as such."""
    if isinstance(value, str):
        yield value
    if isinstance(value, dict):
        value = [] if "_target_" in value else list(value.values())
    for item in value if isinstance(value, list) else ():
        yield from _texts(item)


def _hints(found: Any) -> dict[str, Any]:
    try:
        return get_type_hints(found.__init__ if isinstance(found, type) else found)  # type: ignore[misc]
    except Exception:  # names that only a type checker knows
        return {}


def _classes(annotation: Any) -> Iterator[type]:
    """Yields the classes whose objects an annotation asks for."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        plain = annotation.__module__.partition(".")[0] in ("builtins", "typing", "pathlib")
        if not plain and not getattr(annotation, "_is_protocol", False):
            yield annotation
    elif get_origin(annotation) not in (type, Callable):
        for part in get_args(annotation):
            yield from _classes(part)
