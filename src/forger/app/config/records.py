"""Finds what the config of a record names that its reader has not trusted.

A checkpoint, a run folder and a sweep's files may be anybody's, and building what a config names
runs it. So a record may name classes alone, of the kind that belongs in their place, from our own
package and torch's, or from what the user names in `trust`. Names are judged first, by the source
of what they stand for; what passes is imported, and judged once more as what it really is.

Imports neither torch nor anything that does, unless parts are to be built.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin, get_type_hints

from forger.app.config.messages import given
from forger.app.config.sections import SCRIPTS, Section
from forger.app.config.signatures import derives, signature_of
from forger.app.config.source import NotFoundError, TargetError, import_target, locate
from forger.app.config.trust import OWN, PACKAGES, is_in_use, is_named, not_where, says_where

# Where all of them would be too many: classes of the right kind that load or fetch what they like.
_NARROWER = {
    **{"model": (OWN, "torch", "torchvision"), "optimizer": ("torch",)},
    **dict.fromkeys(("trainer", "callbacks", "logger"), (OWN, "lightning")),
    **dict.fromkeys(("data", "loss", "schedule", "metrics"), (OWN,)),
}
_HYDRAS = frozenset({"_target_", "_partial_", "_convert_", "_recursive_"})
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
        imports: whether to import what is to be built, once nothing has been found by name.
    """
    record = _Record(tuple(trust), tuple(typed), tuple(build), names_only)
    record.check("", config)
    if imports and build and not record.problems:
        record.imports = True
        record.check("", config)
    return list(record.problems.values())


@dataclass
class _Record:
    """The config of a record, walked through twice: judged by names, then by what they import."""

    trust: tuple[str, ...]
    typed: tuple[str, ...]
    build: tuple[str, ...]
    names_only: bool
    imports: bool = False
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
        typed = _below(at, self.typed)
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            self.refuse(at, name, "must be a dotted name, such as package.module.Class")
            return
        section = SCRIPTS["train"].section(key) if among is None else None
        built = "" in self.build or _below(key, self.build)
        named = typed or name in self.trust
        problem = None if named else self.wrong_name(key, name, section, built)
        hints: dict[str, Any] = {}
        if problem is None and built and self.imports:
            problem, hints = self.wrong_import(name, section, among, any_callable=named)
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
                self.check_argument(path, value, is_named(name, [OWN]), section)

    def check_argument(self, key: str, value: Any, ours: bool, section: Section | None) -> None:
        """Checks an argument of a class that the user has not vouched for."""
        name = key.rpartition(".")[2]
        partial = section is not None and section.partial
        if name == "_args_" or (name == "_partial_" and not partial):
            self.refuse(key, value, "has no place in a record")
        elif name in _HYDRAS or value is None:
            return
        elif says_where(name, ours):
            kept = name == "local_dir" and is_in_use(name, str(value))
            if not kept and not is_named(str(value), self.trust):
                self.refuse(key, value, not_where(str(value)))
        elif not ours:
            for text in _texts(value):
                if _OUTSIDE.match(text) and not is_named(text, self.trust):
                    self.refuse(key, text, not_where(text))

    def wrong_name(self, key: str, name: str, section: Section | None, built: bool) -> str | None:
        """Returns what is wrong with a name, by its package and its source."""
        top, owner = name.partition(".")[0], name.rpartition(".")[0]
        trusted = is_named(name, self.trust)
        if section is not None and not (section.base or key.startswith("schedule.")):
            return "no object belongs in this place"
        allowed: tuple[str, ...] = PACKAGES
        if section is not None:
            allowed = _NARROWER.get(key.partition(".")[0], PACKAGES)
        if not trusted and (top not in allowed or "._" in name):
            return (
                f"a record may name classes of {', '.join(allowed)} here; if you know what this"
                f" is, write trust=[{owner or name}]"
            )
        try:
            found = locate(name)
        except NotFoundError as error:
            if top in PACKAGES or self.names_only or not built:
                return None  # nothing to run; what builds it will say so
            return f"{signature_of(name)}{_elsewhere(name, error)}"
        if found is None:
            return None if trusted else f"is no class that its source shows; {_exactly(name)}"
        if not isinstance(found.node, ast.ClassDef):
            return f"is no class, and a record may name nothing else; {_exactly(name)}"
        home = f"{found.module.name}.{found.node.name}"
        if not trusted and not is_named(home, PACKAGES):
            return f"is {home}, and no class of {top}; {_exactly(name)}"
        if section is not None and not derives(name, section.base):
            return f"must derive from {section.base[0]}"
        return None

    def wrong_import(
        self, name: str, section: Section | None, among: tuple[type, ...] | None, any_callable: bool
    ) -> tuple[str | None, dict[str, Any]]:
        """Imports what a name stands for: what is wrong with it, and the hints of its arguments."""
        try:
            found = import_target(name)
        except TargetError as error:
            if is_named(name, [OWN]):
                return None, {}  # of another version: what builds it says which
            return f"{error}{_elsewhere(name, error.__cause__)}", {}
        if any_callable:
            return None, _hints(found)
        if not isinstance(found, type):
            return f"is no class, and a record may name nothing else; {_exactly(name)}", {}
        home = f"{found.__module__}.{found.__qualname__}"
        if not is_named(home, [*PACKAGES, *self.trust]):
            return f"is {home}; if you know what this is, write trust=[{found.__module__}]", {}
        base = () if section is None else section.base
        if base and not issubclass(found, import_target(base[0])):
            return f"must derive from {base[0]}", {}
        if among is not None and not issubclass(found, among):
            return f"no such object belongs in this place; {_exactly(name)}", {}
        return None, _hints(found)


def _exactly(name: str) -> str:
    return f"if you know what this is, write trust=[{name}]"


def _elsewhere(name: str, error: BaseException | None) -> str:
    gone = isinstance(error, (ImportError, AttributeError, NotFoundError))
    return f"; if it has moved, write moved={{{name}:<its new place>}}" if gone else ""


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
