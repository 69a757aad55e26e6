"""Dotted names followed through source. Owns the search for a definition, without any import.

What cannot be followed is `None`, never an error; only a name that surely does not exist is one.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass

from forger.runs.checking.modules import STAR, Module, Node, find_module


class NotFoundError(LookupError):
    """A dotted name whose part `missing` surely does not exist in `owner` ("": at the top)."""

    def __init__(self, owner: str, missing: str, known: frozenset[str] = frozenset()) -> None:
        super().__init__(f"{owner or 'Python'} has no {missing!r}")
        self.owner, self.missing, self.known = owner, missing, known


@dataclass(frozen=True)
class Definition:
    """What defines a name, and the module whose names it uses."""

    node: Node
    module: Module


def locate(target: str) -> Definition | None:
    """Finds what a dotted name such as `torch.optim.Adam` stands for.

    Returns:
        The definition, or `None` where the source does not tell.

    Raises:
        NotFoundError: a part of the name surely does not exist.
    """
    owner, parts = "", target.split(".")
    while parts and find_module(f"{owner}.{parts[0]}".lstrip(".")) is not None:
        owner = f"{owner}.{parts.pop(0)}".lstrip(".")
    module = find_module(owner) if owner else None
    if module is None:
        raise NotFoundError("", parts[0], frozenset(sys.builtin_module_names))
    if not parts or not module.text:
        return None
    definition = member(module, parts[0])
    if definition is None and module.complete and parts[0] not in module.bindings:
        raise NotFoundError(owner, parts[0], module.names)
    return definition if len(parts) == 1 else None


def member(module: Module, name: str, depth: int = 20) -> Definition | None:
    """Finds the definition of a module's `name`, through imports, aliases and lazy tables."""
    binding = module.bindings.get(name) or module.lazy(name)
    if depth == 0:
        return None
    if binding is None:
        found = (_from_star(star, name, depth) for star in module.bindings if star[0] == STAR)
        return next(filter(None, found), None)
    if isinstance(binding, tuple):
        source = find_module(binding[0]) if binding[0] else None
        if source is None or not binding[1]:
            return None
        return member(source, binding[1], depth - 1)
    if isinstance(binding, (ast.Name, ast.Attribute)):
        return resolve(binding, module, depth - 1)
    return Definition(binding, module)


def _from_star(star: str, name: str, depth: int) -> Definition | None:
    source = None if name.startswith("_") else find_module(star.lstrip(STAR))
    return None if source is None else member(source, name, depth - 1)


def resolve(expression: ast.expr, module: Module, depth: int = 20) -> Definition | None:
    """Finds the definition that an expression such as `Adam` or `nn.Module` names."""
    if isinstance(expression, ast.Name):
        return member(module, expression.id, depth)
    if isinstance(expression, ast.Attribute):
        owner = _as_module(expression.value, module)
        return None if owner is None else member(owner, expression.attr, depth)
    return None


def _as_module(expression: ast.expr, module: Module) -> Module | None:
    """Finds the module that an expression such as `nn` or `torch.nn` names."""
    if isinstance(expression, ast.Attribute):
        owner = _as_module(expression.value, module)
        return None if owner is None else find_module(f"{owner.name}.{expression.attr}")
    if not isinstance(expression, ast.Name):
        return None
    binding = module.bindings.get(expression.id)
    return find_module(".".join(filter(None, binding))) if isinstance(binding, tuple) else None


def full_name(expression: ast.expr, module: Module) -> str:
    """Returns the dotted name that an expression such as `nn.Module` is imported by, else ""."""
    if isinstance(expression, ast.Attribute):
        owner = full_name(expression.value, module)
        return f"{owner}.{expression.attr}" if owner else ""
    binding = module.bindings.get(expression.id) if isinstance(expression, ast.Name) else None
    return ".".join(filter(None, binding)) if isinstance(binding, tuple) else ""
