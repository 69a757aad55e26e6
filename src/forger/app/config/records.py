"""Finds what the config of a record names that its reader has not trusted.

A checkpoint, a run folder and a sweep's files may be anybody's, and building what a config names
runs it. So a record may name classes alone, of the kind that belongs in their place, from our own
package and torch's, or from what the user names in `trust`. Names are judged first, by the source
of what they stand for; what passes is imported, and judged once more as what it really is.

Imports neither torch nor anything that does, unless parts are to be built.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from forger.app.config.importing import TargetError, import_target
from forger.app.config.mains import MAINS
from forger.app.config.messages import given
from forger.app.config.places import Place
from forger.app.config.sources import BrokenModuleError, NotFoundError, locate
from forger.app.config.targets import derives, signature_of

OWN = __name__.partition(".")[0]
PACKAGES = (OWN, "torch", "torchvision", "torchmetrics", "lightning")
# Where all of them would be too many: classes of the right kind that load or fetch what they like.
_NARROWER = {
    **{"model": (OWN, "torch", "torchvision"), "optimizer": ("torch",)},
    **{"trainer": (OWN, "lightning"), "callbacks": (OWN, "lightning")},
    **{"logger": (OWN, "lightning")},
    **dict.fromkeys(("data", "loss", "schedule", "metrics"), (OWN,)),
}
_HYDRAS = frozenset({"_target_", "_partial_", "_convert_", "_recursive_"})
# Arguments that say where a class writes or what it connects to.
_WHERE = re.compile(
    r"(?:.*_)?(dir|dirpath|root|path|folder|uri|url|host|address|port|location|storage)"
)
_OURS = frozenset({"local_dir", "tracking_uri"})  # those of our own classes
_OUTSIDE = re.compile(r"~|/|[A-Za-z]:[\\/]|(.*[\\/])?\.\.([\\/]|$)|.*://", re.DOTALL)


def named(trust: Sequence[str] | None, moved: Mapping[str, str] | None) -> list[str]:
    """Returns all that a user has named: `trust`, and the new places of what has moved."""
    return [*([trust] if isinstance(trust, str) else trust or ()), *(moved or {}).values()]


def is_named(value: str, trust: Iterable[str]) -> bool:
    """Tells whether `trust` names a dotted name or path, or a module or folder that it lies in."""
    if "/" in value and "://" not in value:
        value = os.path.normpath(value)  # lest dots lead out of a folder
    return any(value == one or value.startswith((f"{one}.", f"{one}/")) for one in trust)


# What lies in the folders that settings name, once they are in use.
_IN_USE = {
    "cache_dir": ("images-*", "features-*", "logits-*", "classifier-*"),
    "local_dir": ("mlflow.db",),
    **dict.fromkeys(("root", "data_dir"), ("MNIST", "FashionMNIST", "cifar-10-batches-py")),
}


def is_in_use(name: str, folder: str) -> bool:
    """Tells whether a folder that a record names is there, and holds what we keep in such a one."""
    return any(True for kept in _IN_USE[name] for _ in Path(folder).expanduser().glob(kept))


def says_where(name: str, ours: bool = False) -> bool:
    """Tells whether an argument of that name says where a class writes or what it connects to."""
    return name in _OURS if ours else _WHERE.fullmatch(name) is not None


def climbs(data: Any) -> bool:
    """Tells whether a path in plain data goes up, and so out of the folder that it begins with."""
    if isinstance(data, dict):
        data = [*data, *data.values()]
    if isinstance(data, (list, tuple)):
        return any(map(climbs, data))
    return isinstance(data, str) and ".." in re.split(r"[\\/]", data)


def links_out_of(folder: Path, trust: Iterable[str] = (), inside: Path | None = None) -> list[str]:
    """Returns complaints about links in a record's folder through which others would be written to.

    Args:
        folder: that is going to be written to.
        trust: names folders that links may lead to.
        inside: the folder that the user gave; `None`: the same.
    """
    root, found = (inside or folder).resolve(), []
    below = (Path(top, name) for top, *names in os.walk(folder) for name in [*names[0], *names[1]])
    for path in (folder, *below):
        target = path.resolve() if path.is_symlink() else root
        if not target.is_relative_to(root) and not is_named(str(target), trust):
            found.append(
                f"{path}: is a link to {target}, outside of the folder that is written to; put a"
                f" copy in its place, or write trust=['{target}']"
            )
    return found


def move(config: Any, moved: Mapping[str, str] | None) -> Any:
    """Returns a plain config in which classes and modules have their new places, old to new."""
    if isinstance(config, dict):
        return {key: _moved(key, value, moved or {}) for key, value in config.items()}
    return [move(value, moved) for value in config] if isinstance(config, list) else config


def _moved(key: Any, value: Any, moved: Mapping[str, str]) -> Any:
    if key == "_target_" and isinstance(value, str):
        for old, new in moved.items():
            if value == old or value.startswith(f"{old}."):
                return f"{new}{value.removeprefix(old)}"
    return move(value, moved)


def targets_in(config: Any) -> Iterator[str]:
    """Yields every `_target_` in a plain config that is not of a known package."""
    if isinstance(config, dict):
        target = config.get("_target_")
        if isinstance(target, str) and not is_named(target, PACKAGES):
            yield target
        config = list(config.values())
    for value in config if isinstance(config, list) else ():
        yield from targets_in(value)


def trust_in(config: Any) -> list[str]:
    """Returns what `trust` has to name for a config of the user's own, whose parts were built."""
    names = list(targets_in(config))
    classes = {name for name in names if isinstance(import_target(name), type)}
    return list(dict.fromkeys(n.rpartition(".")[0] if n in classes else n for n in names))


def places_in(config: Any) -> Iterator[str]:
    """Yields what `trust` has to name of where a plain config has things written or sent."""
    items = config.items() if isinstance(config, dict) else ()
    for key, value in items:
        known = key in ("data_dir", "log_dir", "root", "cache_dir")  # have rules of their own
        if isinstance(value, str) and says_where(str(key)) and not known:
            yield value
    for value in config if isinstance(config, list) else dict(items).values():
        yield from places_in(value)


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
    walk = _Walk(tuple(trust), tuple(typed), tuple(build), names_only)
    walk.part("", config)
    if imports and build and not walk.problems:
        walk.imports = True
        walk.part("", config)
    return list(walk.problems.values())


class _Walk:
    """One walk through one config."""

    def __init__(
        self,
        trust: tuple[str, ...],
        typed: tuple[str, ...],
        build: tuple[str, ...],
        names_only: bool,
    ) -> None:
        self.trust, self.typed, self.build, self.names_only = trust, typed, build, names_only
        self.imports = False
        self.problems: dict[str, str] = {}

    def refuse(self, key: str, value: Any, reason: str) -> None:
        self.problems.setdefault(key, f"{given(key, value)}: {reason}")

    def part(self, key: str, value: Any, among: Any = None) -> None:
        """Checks a part; `among` are the classes that the argument takes of which it is part."""
        if _below(key, self.typed):
            return
        if isinstance(value, dict) and "_target_" in value:
            self.target(key, value, among)
        elif isinstance(value, dict):
            for name, item in value.items():
                self.part(f"{key}.{name}" if key else str(name), item, among)
        elif isinstance(value, (list, tuple)):
            for place, item in enumerate(value):
                self.part(f"{key}.{place}", item, among)
        elif isinstance(value, str) and "${" in value:
            self.refuse(key, value, "a record holds values, and nothing that reads others")

    def target(self, key: str, node: dict[str, Any], among: Any) -> None:
        name, at = node["_target_"], f"{key}._target_"
        typed = _below(at, self.typed)
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            self.refuse(at, name, "must be a dotted name, such as package.module.Class")
            return
        place = MAINS["train"].place_of(key) if among is None else None
        built = "" in self.build or _below(key, self.build)
        named = typed or name in self.trust
        problem = None if named else self.by_name(key, name, place, built)
        hints: dict[str, Any] = {}
        if problem is None and built and self.imports:
            problem, hints = self.as_it_is(name, place, among, any_callable=named)
        if problem is not None:
            self.refuse(at, name, problem)
            return
        for argument, value in node.items():
            if argument == "_target_":
                continue
            path = f"{key}.{argument}"
            self.part(path, value, tuple(_classes(hints.get(argument))))
            vouched = typed or is_named(name, self.trust) or _below(path, self.typed)
            if built and self.imports and not self.names_only and not vouched:
                self.argument(path, argument, value, name, place)

    def argument(self, key: str, name: str, value: Any, target: str, place: Place | None) -> None:
        """Checks an argument of a class that the user has not vouched for."""
        ours = target.partition(".")[0] == OWN
        if name == "_args_" or (name == "_partial_" and not (place is not None and place.partial)):
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

    def by_name(self, key: str, name: str, place: Place | None, built: bool) -> str | None:
        """Says what is wrong with a name, by its package and its source."""
        top, owner = name.partition(".")[0], name.rpartition(".")[0]
        trusted = is_named(name, self.trust)
        if place is not None and not (place.base or key.startswith("schedule.")):
            return "no object belongs in this place"
        allowed: tuple[str, ...] = PACKAGES
        if place is not None:
            allowed = _NARROWER.get(key.partition(".")[0], PACKAGES)
        if not trusted and (top not in allowed or "._" in name):
            return (
                f"a record may name classes of {', '.join(allowed)} here; if you know what this"
                f" is, write trust=[{owner or name}]"
            )
        try:
            found = locate(name)
        except (BrokenModuleError, NotFoundError) as error:
            if top in PACKAGES or self.names_only or not built:
                return None  # nothing to run; what builds it will say so
            return f"{signature_of(name)}{_elsewhere(name, error)}"
        if found is None:
            return None if trusted else f"is no class that its source shows; {_exactly(name)}"
        if not isinstance(found.node, ast.ClassDef):
            return f"is no class, and a record may name nothing else; {_exactly(name)}"
        home = f"{found.module.name}.{found.node.name}"
        if not trusted and home.partition(".")[0] not in PACKAGES:
            return f"is {home}, and no class of {top}; {_exactly(name)}"
        if place is not None and not derives(name, place.base):
            return f"must derive from {place.base[0]}"
        return None

    def as_it_is(
        self, name: str, place: Place | None, among: Any, any_callable: bool
    ) -> tuple[str | None, dict[str, Any]]:
        """Imports what a name stands for: what is wrong with it, and the hints of its arguments."""
        try:
            found = import_target(name)
        except TargetError as error:
            if name.startswith(f"{OWN}."):
                return None, {}  # of another version: what builds it says which
            return f"{error}{_elsewhere(name, error.__cause__)}", {}
        hints = _hints(found)
        if any_callable:
            return None, hints
        if not isinstance(found, type):
            return f"is no class, and a record may name nothing else; {_exactly(name)}", {}
        home = f"{found.__module__}.{found.__qualname__}"
        if home.partition(".")[0] not in PACKAGES and not is_named(home, self.trust):
            return f"is {home}; if you know what this is, write trust=[{found.__module__}]", {}
        if place is not None and place.base and not issubclass(found, import_target(place.base[0])):
            return f"must derive from {place.base[0]}", {}
        if among is not None and not issubclass(found, tuple(among)):
            return f"no such object belongs in this place; {_exactly(name)}", {}
        return None, hints


def _exactly(name: str) -> str:
    return f"if you know what this is, write trust=[{name}]"


def _elsewhere(name: str, error: BaseException | None) -> str:
    gone = isinstance(error, (ImportError, AttributeError, NotFoundError))
    return f"; if it has moved, write moved={{{name}:<its new place>}}" if gone else ""


def not_where(value: str) -> str:
    """Words the refusal of a place or an address."""
    return (
        "a record does not decide where things are written or sent; leave it out, set it yourself,"
        f" or write trust=['{value}']"
    )


def _below(key: str, parts: Iterable[str]) -> bool:
    return any(key == part or key.startswith(f"{part}.") for part in parts)


def _texts(value: Any) -> Iterator[str]:
    """Yields the texts in an argument, but those of objects in it, which are checked as such."""
    if isinstance(value, str):
        yield value
    if isinstance(value, dict) and "_target_" in value:
        return
    items = value.values() if isinstance(value, dict) else value
    for item in items if isinstance(value, (dict, list)) else ():
        yield from _texts(item)


def _hints(found: Any) -> dict[str, Any]:
    try:
        constructor = found.__init__ if isinstance(found, type) else found  # type: ignore[misc]
        return get_type_hints(constructor)
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
