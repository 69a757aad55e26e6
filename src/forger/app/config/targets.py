"""What is wrong with a `_target_` as a whole: its name, its kind, or how it is called."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from forger.app.config.messages import nearest
from forger.app.config.modules import find_module
from forger.app.config.places import Base, Place
from forger.app.config.signatures import INIT_FREE, Signature, is_opaque, read
from forger.app.config.sources import (
    BrokenModuleError,
    Definition,
    NotFoundError,
    full_name,
    locate,
    meaning,
    resolve,
)


def signature_of(target: Any) -> Signature | str:
    """Returns the signature of a target, or what is wrong with its name."""
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")):
        return "must be a dotted name, such as package.module.Class"
    try:
        definition = locate(target)
    except BrokenModuleError as error:
        return f"cannot be imported: {error}"
    except NotFoundError as error:
        return _not_found(error)
    if definition is None and find_module(target) is not None:
        return "is a module; name a class or a function in it"
    return read(target)


def _not_found(error: NotFoundError) -> str:
    owner, hint = error.owner, nearest(error.missing, error.known)
    if owner is None:
        return f"no module {error.missing!r} is installed or in this folder{hint}"
    ours = owner.name.partition(".")[0] == "forger"
    where = f" ({owner.path})" if owner.path and not ours else ""  # an installed one, perhaps
    return f"{owner.name}{where} has no {error.missing!r}{hint}"


def derives(target: str, base: Base) -> bool:
    """Tells whether a target may be used where a class of `base` is needed."""
    try:
        return not base or _derives(locate(target), base)
    except (BrokenModuleError, NotFoundError):
        return True


def refuses_call(
    key: str, node: dict[str, Any], signature: Signature, place: Place
) -> Iterator[tuple[str, str]]:
    """Yields keys and complaints about a target that cannot be called as it will be."""
    if place.partial and node.get("_partial_") is not True:
        yield f"{key}._partial_", f"{key}: needs '_partial_: true'"
    if not signature.open:
        for name in sorted(place.demanded - signature.parameters.keys()):
            yield key, f"{key}: {node['_target_']} takes no {name}, which it will be given"


def _derives(definition: Definition | None, base: Base, depth: int = 20) -> bool:
    """Tells whether a class derives from `base`; what the source does not tell may well do."""
    node = definition.node if definition is not None else None
    if definition is None or depth == 0 or not isinstance(node, ast.ClassDef):
        return True
    module = definition.module
    if f"{module.name}.{node.name}" in base or is_opaque(node) or _has_new(node):
        return True
    parents = [b.value if isinstance(b, ast.Subscript) else b for b in node.bases]
    # By its name first: torch's modules are long, and reading them takes a while.
    return any(full_name(parent, module) in base for parent in parents) or any(
        _derives(resolve(parent, module), base, depth - 1)
        for parent in parents
        if meaning(parent, module) not in INIT_FREE
    )


def _has_new(node: ast.ClassDef) -> bool:
    """Tells whether a class says itself what calling it returns, which may be another's object."""
    functions = (s for s in node.body if isinstance(s, ast.FunctionDef))
    return any(function.name == "__new__" for function in functions)
