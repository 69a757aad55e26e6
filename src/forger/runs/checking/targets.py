"""What is wrong with a `_target_` as a whole: its name, its kind, or an argument that is missing.

Owns these questions; `check` asks about each setting.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from forger.runs.checking.messages import nearest
from forger.runs.checking.modules import find_module
from forger.runs.checking.places import Base, Place
from forger.runs.checking.signatures import INIT_FREE, Signature, last_name, read
from forger.runs.checking.sources import Definition, NotFoundError, full_name, locate, resolve


def signature_of(target: Any) -> Signature | str:
    """Returns the signature of a target, or what is wrong with its name."""
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")):
        return "must be a dotted name, such as package.module.Class"
    if find_module(target) is not None:
        return "is a module; name a class in it"
    try:
        return read(target)
    except NotFoundError as error:
        hint = nearest(error.missing, error.known)
        if error.owner:
            return f"{error.owner} has no {error.missing!r}{hint}"
        return f"no module {error.missing!r} is installed or in this folder{hint}"


def derives(target: str, base: Base) -> bool:
    """Tells whether a target may be used where a class of `base` is needed."""
    try:
        return not base or _derives(locate(target), base)
    except NotFoundError:  # a method of a class, say
        return True


def lacks(
    key: str, node: dict[str, Any], signature: Signature, place: Place
) -> Iterator[tuple[str, str]]:
    """Yields keys and complaints about a target that cannot be called with what it will get."""
    target = node["_target_"]
    if place.partial and node.get("_partial_") is not True:
        yield f"{key}._partial_", f"{key}: needs '_partial_: true'"
    for name in sorted(place.kept - node.keys()):
        yield f"{key}.{name}", f"{key}.{name}: is needed and missing; write {key}.{name}=<value>"
    if not signature.open:
        for name in sorted(place.demanded - signature.parameters.keys()):
            yield key, f"{key}: {target} takes no {name}, which it will be given"
    if "_args_" in node:
        return
    for name, parameter in signature.parameters.items():
        if parameter.required and name not in node and name not in place.passed:
            path = f"{key}.{name}"
            yield path, f"{path}: {target} needs it; write +{path}=<value>"


def _derives(definition: Definition | None, base: Base, depth: int = 20) -> bool:
    """Tells whether a class derives from `base`; what the source does not tell may well do."""
    node = definition.node if definition is not None else None
    if definition is None or depth == 0 or not isinstance(node, ast.ClassDef):
        return True
    if f"{definition.module.name}.{node.name}" in base:
        return True
    parents = [b.value if isinstance(b, ast.Subscript) else b for b in node.bases]
    named = [parent for parent in parents if last_name(parent) not in INIT_FREE]
    # By its name first: torch's modules are long, and reading them takes a while.
    return any(full_name(parent, definition.module) in base for parent in named) or any(
        _derives(resolve(parent, definition.module), base, depth - 1) for parent in named
    )
