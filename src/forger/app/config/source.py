"""Reads what Python modules define from their source: importing torch would take seconds.

What cannot be followed is `None`, never an error; only a name that surely does not exist is one.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.machinery import ModuleSpec
from importlib.util import decode_source, resolve_name
from pathlib import Path
from typing import TypeAlias

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Node: TypeAlias = ast.ClassDef | Function | ast.expr
Binding: TypeAlias = Node | tuple[str, str]
"""What a module says of a name: its definition, or `(module, name there)`; "" is all of it."""

# Signs that a module makes names which its source does not spell out.
_DYNAMIC = ("globals()", "exec(", "sys.modules", "import *", "def __getattr__", "__dict__")
# Modules whose source is not read: their names say enough.
_STANDARD = {"abc", "collections.abc", "dataclasses", "os", "pathlib", "typing"}
_STANDARD |= {"typing_extensions", "builtins"}
# What differs between two branches of an `if`: nothing is known of it.
_EITHER = ast.Constant(...)


class NotFoundError(LookupError):
    """A dotted name whose part `missing` surely does not exist in `owner` (`None`: at the top)."""

    def __init__(self, owner: Module | None, missing: str, known: frozenset[str]) -> None:
        super().__init__(f"{owner.name if owner else 'Python'} has no {missing!r}")
        self.owner, self.missing, self.known = owner, missing, known


class BrokenModuleError(LookupError):
    """A module on the way to a dotted name whose source is not Python; says file, line and why."""


class Module:
    """A module's source, parsed when first asked for."""

    def __init__(self, spec: ModuleSpec) -> None:
        self.name = spec.name
        origin = spec.origin or ""
        self.path = Path(origin) if origin.endswith(".py") else None
        self.folders = spec.submodule_search_locations
        self.stars: list[str] = []  # modules of `from ... import *`, once `bindings` is read
        self._loader = spec.loader

    @cached_property
    def _parsed(self) -> tuple[str, list[ast.stmt], str | None]:
        """The source and its statements, decoded as an import would, or what is wrong with them."""
        read = getattr(self._loader, "get_data", None)
        if self.path is None or read is None:
            return "", [], None
        try:
            data = read(str(self.path))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of odd escapes: the import will say so
                return decode_source(data), ast.parse(data, str(self.path)).body, None
        except (OSError, SyntaxError, ValueError) as error:
            return "", [], described(error, self.path)

    @property
    def error(self) -> str | None:
        """File, line and reason where the source is not Python: importing it would fail."""
        return self._parsed[2]

    @cached_property
    def bindings(self) -> dict[str, Binding]:
        """What the module's source says of each of its names."""
        found: dict[str, Binding] = {}
        for statement, certain in _statements(self._parsed[1]):
            for name, binding in self._bind(statement):
                if certain or name not in found:
                    found[name] = binding
                elif certain is None:
                    found[name] = _EITHER
        return found

    def lacks(self, name: str) -> bool:
        """Tells whether the module surely has no such name: its source does not even mention it."""
        text = self._parsed[0]
        unknown = self.error is not None or (self.path is None and self.folders is None)
        if unknown or any(sign in text for sign in _DYNAMIC):
            return False
        return not re.search(rf"\b{name}\b", text) and not hasattr(sys.modules.get(self.name), name)

    @property
    def names(self) -> frozenset[str]:
        """Its public names, its own modules among them: what a typo may have meant."""
        files = (path.stem for folder in self.folders or () for path in Path(folder).glob("*.py"))
        return frozenset(name for name in (*self.bindings, *files) if name[0] != "_")

    def _bind(self, statement: ast.stmt) -> Iterator[tuple[str, Binding]]:
        if isinstance(statement, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield statement.name, statement
        elif isinstance(statement, ast.ImportFrom):
            source = self._imported(statement)
            for alias in statement.names:
                if alias.name == "*":
                    self.stars.append(source)
                else:
                    yield alias.asname or alias.name, (source, alias.name)
        elif isinstance(statement, ast.Import):
            for alias in statement.names:
                top = alias.name.partition(".")[0]
                yield alias.asname or top, (alias.name if alias.asname else top, "")
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            yield from ((t.id, statement.value) for t in targets if isinstance(t, ast.Name))

    def _imported(self, statement: ast.ImportFrom) -> str:
        parent = self.name if self.folders is not None else self.name.rpartition(".")[0]
        try:
            return resolve_name("." * statement.level + (statement.module or ""), parent)
        except ImportError:
            return ""


def _statements(
    body: list[ast.stmt], certain: bool | None = True
) -> Iterator[tuple[ast.stmt, bool | None]]:
    """Yields what runs at import; the second value is false for fallbacks, `except` for one.

    It is `None` for the `else` of an `if`, which is as good as the other branch, but not for that
    of `if TYPE_CHECKING`.
    """
    for statement in body:
        yield statement, certain
        if isinstance(statement, (ast.If, ast.Try, ast.With)):
            yield from _statements(statement.body, certain)
        if isinstance(statement, ast.If):
            typing = "TYPE_CHECKING" in ast.dump(statement.test)
            yield from _statements(statement.orelse, False if typing else None)
        if isinstance(statement, ast.Try):
            for fallback in (statement.orelse, *(h.body for h in statement.handlers)):
                yield from _statements(fallback, False)


def described(error: Exception, path: str | Path) -> str:
    """Returns the file, line and text of an error in a module's source."""
    if not isinstance(error, SyntaxError):
        return f"{path}: {type(error).__name__}: {error}"
    line = "" if error.lineno is None else f", line {error.lineno}"
    return f"{path}{line}: {type(error).__name__}: {error.msg}"


@cache
def is_installed(path: str | Path | None) -> bool:
    """Tells whether a module's file is of Python or of an installed package, and not the user's."""
    if path is None or {"site-packages", "dist-packages"} & set(Path(path).parts):
        return True
    return Path(path).is_relative_to(Path(ast.__file__).parent)  # the standard library


@cache
def find_module(name: str) -> Module | None:
    """Finds a module part by part, as an import would, but without running its parents."""
    path: list[str] | None = None
    parent = name.rpartition(".")[0]
    if parent:
        package = find_module(parent)
        if package is None or package.folders is None:
            return None
        path = list(package.folders)
    for finder in sys.meta_path:
        spec = finder.find_spec(name, path)
        if spec is not None:
            return Module(spec)
    return Module(ModuleSpec(name, None)) if name in sys.modules else None  # of a notebook


@dataclass(frozen=True)
class Definition:
    """What defines a name, and where; `node` is `None` for a name of Python's own."""

    node: Node | None
    module: Module
    name: str

    @property
    def full_name(self) -> str:
        """Module and name."""
        return f"{self.module.name}.{self.name}"


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
    return definition if len(rest) == 1 and definition and definition.node else None


def member(module: Module, name: str, depth: int = 20) -> Definition | None:
    """Finds the definition of a module's `name`, through imports and aliases."""
    if module.name in _STANDARD:
        return Definition(None, module, name)
    binding = module.bindings.get(name)
    if depth == 0 or (binding is None and name[0] == "_"):
        return None
    if binding is None:
        sources = (find_module(star) for star in module.stars)
        found = (member(source, name, depth - 1) for source in sources if source is not None)
        return next(filter(None, found), None)
    if isinstance(binding, tuple):
        source = find_module(binding[0]) if binding[0] and binding[1] else None
        return None if source is None else member(source, binding[1], depth - 1)
    if isinstance(binding, (ast.Name, ast.Attribute)):
        return resolve(binding, module, depth - 1)
    return Definition(binding, module, name)


def resolve(expression: ast.expr, module: Module, depth: int = 20) -> Definition | None:
    """Finds the definition that an expression such as `Adam` or `nn.Module` names."""
    if isinstance(expression, ast.Attribute):
        owner = _as_module(expression.value, module)
        return None if owner is None else member(owner, expression.attr, depth)
    if not isinstance(expression, ast.Name):
        return None
    found = member(module, expression.id, depth)
    if found is None and expression.id not in module.bindings and hasattr(builtins, expression.id):
        python = find_module("builtins")
        return None if python is None else Definition(None, python, expression.id)
    return found


def _as_module(expression: ast.expr, module: Module) -> Module | None:
    """Finds the module that an expression such as `nn` or `torch.nn` names."""
    name = imported_name(expression, module)
    return find_module(name) if name else None


def imported_name(expression: ast.expr, module: Module) -> str:
    """Returns the dotted name that an expression such as `nn.Module` is imported by, else ""."""
    if isinstance(expression, ast.Attribute):
        owner = imported_name(expression.value, module)
        return f"{owner}.{expression.attr}" if owner else ""
    binding = module.bindings.get(expression.id) if isinstance(expression, ast.Name) else None
    return ".".join(filter(None, binding)) if isinstance(binding, tuple) else ""
