"""Dotted names followed through source. Owns the search for a definition, without any import.

What cannot be followed is `None`, never an error; only a name that surely does not exist is one.
"""

from __future__ import annotations

import ast
import builtins
import sys
from dataclasses import dataclass

from forger.app.config.modules import STAR, Module, Node, find_module, is_installed

# Modules whose names are known by heart: their source is not read.
_STANDARD = {
    *("abc", "collections.abc", "dataclasses", "os", "pathlib", "typing", "typing_extensions"),
}


class NotFoundError(LookupError):
    """A dotted name whose part `missing` surely does not exist in `owner` (`None`: at the top)."""

    def __init__(self, owner: Module | None, missing: str, known: frozenset[str]) -> None:
        super().__init__(f"{owner.name if owner else 'Python'} has no {missing!r}")
        self.owner, self.missing, self.known = owner, missing, known


class BrokenModuleError(LookupError):
    """A module on the way to a dotted name whose source is not Python; says file, line and why."""


@dataclass(frozen=True)
class Definition:
    """What defines a name, and the module whose names it uses."""

    node: Node
    module: Module


def locate(target: str) -> Definition | None:
    """Finds what a dotted name such as `torch.optim.Adam` stands for.

    Returns:
        The definition, or `None` where the source does not tell, or it is a module.

    Raises:
        BrokenModuleError: importing it would fail.
        NotFoundError: a part of the name surely does not exist.
    """
    parts = target.split(".")
    way: list[Module] = []
    while len(way) < len(parts) and (found := find_module(".".join(parts[: len(way) + 1]))):
        way.append(found)
    if not way:
        raise NotFoundError(None, parts[0], frozenset(sys.builtin_module_names))
    for module in way:  # of installed packages, the last one alone: to read all takes a while
        if (module is way[-1] or not is_installed(module.path)) and module.error is not None:
            raise BrokenModuleError(module.error)
    rest = parts[len(way) :]
    definition = member(way[-1], rest[0]) if rest else None
    if definition is None and len(way) > 1:
        # A package's own name hides a file of that name: `from .generator import generator`.
        hiding = member(way[-2], parts[len(way) - 1])
        if hiding is not None:
            return None if rest else hiding
    if definition is None and rest and way[-1].lacks(rest[0]):
        raise NotFoundError(way[-1], rest[0], way[-1].names)
    return definition if len(rest) == 1 else None


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


def meaning(expression: ast.expr, module: Module, depth: int = 20) -> str:
    """Returns the full name of what an annotation's name stands for: `typing.Optional`, or "".

    Imports and aliases are followed, so that a user's own `Path` is not taken for pathlib's.
    """
    if isinstance(expression, ast.Attribute):
        owner = _as_module(expression.value, module)
        return "" if owner is None else _meaning_in(owner, expression.attr, depth)
    return _meaning_in(module, expression.id, depth) if isinstance(expression, ast.Name) else ""


def _meaning_in(module: Module, name: str, depth: int) -> str:
    if module.name in _STANDARD:
        return f"{module.name}.{name}"
    binding = module.bindings.get(name)
    if depth == 0:
        return ""
    if binding is None:
        stars = (find_module(star.lstrip(STAR)) for star in module.bindings if star[0] == STAR)
        source = next((star for star in stars if star and name in star.bindings), None)
        if source is not None:
            return _meaning_in(source, name, depth - 1)
        return f"builtins.{name}" if hasattr(builtins, name) else ""
    if isinstance(binding, tuple):
        source = find_module(binding[0]) if binding[0] and binding[1] else None
        return "" if source is None else _meaning_in(source, binding[1], depth - 1)
    if isinstance(binding, (ast.Name, ast.Attribute)):
        return meaning(binding, module, depth - 1)
    return f"{module.name}.{name}"


def full_name(expression: ast.expr, module: Module) -> str:
    """Returns the dotted name that an expression such as `nn.Module` is imported by, else ""."""
    if isinstance(expression, ast.Attribute):
        owner = full_name(expression.value, module)
        return f"{owner}.{expression.attr}" if owner else ""
    binding = module.bindings.get(expression.id) if isinstance(expression, ast.Name) else None
    return ".".join(filter(None, binding)) if isinstance(binding, tuple) else ""
