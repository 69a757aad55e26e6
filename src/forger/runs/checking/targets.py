"""What is wrong with a `_target_` as a whole: it does not exist, or an argument is missing.

Owns these two questions; `check` asks about each setting.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from forger.runs.checking.messages import nearest
from forger.runs.checking.modules import find_module
from forger.runs.checking.places import Place
from forger.runs.checking.signatures import Signature, read
from forger.runs.checking.sources import NotFoundError


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


def lacks(
    key: str, node: dict[str, Any], signature: Signature, place: Place
) -> Iterator[tuple[str, str]]:
    """Yields keys and complaints about a target that cannot be called with what it will get."""
    target = node["_target_"]
    if place.partial and node.get("_partial_") is not True:
        yield f"{key}._partial_", f"{key}: needs '_partial_: true'"
    if not signature.open:
        for name in sorted(place.demanded - signature.parameters.keys()):
            yield key, f"{key}: {target} takes no {name}, which it will be given"
    if "_args_" in node:
        return
    for name, parameter in signature.parameters.items():
        if parameter.required and name not in node and name not in place.passed:
            path = f"{key}.{name}"
            yield path, f"{path}: {target} needs it; write +{path}=<value>"
