"""Finds what a dotted name stands for: in the source of its module, or by importing it.

In the source, since importing torch takes seconds. What cannot be followed there is `None`, and is
checked once it is imported; only a name that surely does not exist is an error.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import decode_source, resolve_name
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from forger.app.config.messages import nearest
from forger.errors import ConfigError

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Node: TypeAlias = ast.ClassDef | Function | ast.expr
Binding: TypeAlias = Node | tuple[str, str]
"""What a module says of a name: its definition, or `(module, name there)`; "" is all of it."""

# Signs that a module makes names which its source does not spell out.
_DYNAMIC = ("globals()", "exec(", "sys.modules", "import *", "def __getattr__", "__dict__")
# Modules whose source is not read: their names say enough.
STANDARD = {"abc", "builtins", "collections.abc", "dataclasses", "os", "pathlib", "typing"}
_BLOCKS = (ast.If, ast.Try, ast.ExceptHandler, ast.With)
_FORGER = Path(__file__).parents[2]


class NotFoundError(LookupError):
    """A part of a dotted name surely does not exist."""


class TargetError(ConfigError):
    """A target, a dotted name, that cannot be imported, called, or used where it stands."""

    def __init__(self, message: str, target: str) -> None:
        super().__init__(message)
        self.target = target


class Module:
    """A module's source, parsed when first asked for; empty where it cannot be."""

    def __init__(self, spec: ModuleSpec) -> None:
        self.name = spec.name
        self.path = spec.origin if spec.origin and spec.origin.endswith(".py") else None
        self.folders = spec.submodule_search_locations
        self.stars: list[str] = []  # modules of `from ... import *`, once `bindings` is read

    @cached_property
    def _parsed(self) -> tuple[str, ast.Module]:
        try:
            data = Path(self.path).read_bytes() if self.path else b""
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of odd escapes: the import will say so
                return decode_source(data), ast.parse(data)
        except (OSError, SyntaxError, ValueError):
            return _DYNAMIC[0], ast.parse("")

    @cached_property
    def bindings(self) -> dict[str, Binding]:
        """What the source says of each name; `...` where branches give it several meanings."""
        found: dict[str, Binding] = {}
        for statement, certain in _statements(self._parsed[1]):
            for name, binding in self._bind(statement):
                found[name] = binding if certain or name not in found else ast.Constant(...)
        return found

    def _bind(self, statement: ast.stmt) -> Iterator[tuple[str, Binding]]:
        match statement:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield statement.name, statement
            case ast.ImportFrom(names=names):
                source = self._imported(statement)
                self.stars += [source for alias in names if alias.name == "*"]
                yield from ((alias.asname or alias.name, (source, alias.name)) for alias in names)
            case ast.Import(names=names):
                for alias in names:
                    top = alias.name.partition(".")[0]
                    yield alias.asname or top, (alias.name if alias.asname else top, "")
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                yield name, value

    def _imported(self, statement: ast.ImportFrom) -> str:
        parent = self.name if self.folders is not None else self.name.rpartition(".")[0]
        try:
            return resolve_name("." * statement.level + (statement.module or ""), parent)
        except ImportError:
            return ""

    def refuse_missing(self, name: str) -> None:
        """Raises `NotFoundError` where there is surely no such name: the source mentions none."""
        text = self._parsed[0]
        if (self.path or self.folders) is None or any(sign in text for sign in _DYNAMIC):
            return
        if re.search(rf"\b{name}\b", text) or hasattr(sys.modules.get(self.name), name):
            return
        where = f" ({self.path})" if self.path and not self.name.startswith("forger.") else ""
        files = (path.stem for folder in self.folders or () for path in Path(folder).glob("*.py"))
        known = [one for one in (*self.bindings, *files) if one[0] != "_"]
        raise NotFoundError(f"{self.name}{where} has no {name!r}{nearest(name, known)}")


def _statements(block: ast.AST, certain: bool = True) -> Iterator[tuple[ast.stmt, bool]]:
    """Yields what may run at import, and whether it surely does."""
    for inner in ast.iter_child_nodes(block):
        if isinstance(inner, ast.stmt):
            yield inner, certain
        if isinstance(inner, _BLOCKS):
            yield from _statements(inner, certain=False)


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
    """Finds what defines a dotted name; `None` where the source does not tell, or it is a module.

    Raises:
        NotFoundError: a part of the name surely does not exist.
    """
    parts = target.split(".")
    way: list[Module] = []
    while len(way) < len(parts) and (found := find_module(".".join(parts[: len(way) + 1]))):
        way.append(found)
    if not way:
        raise NotFoundError(f"no module {parts[0]!r} is installed or in this folder")
    rest = parts[len(way) :]
    definition = member(way[-1], rest[0]) if rest else None
    if definition is None and len(way) > 1:
        # A package's own name hides a file of that name: `from .generator import generator`.
        hiding = member(way[-2], parts[len(way) - 1])
        if hiding is not None:
            return None if rest else hiding
    if definition is None and rest:
        way[-1].refuse_missing(rest[0])
    return definition if len(rest) == 1 and definition and definition.node else None


def member(module: Module, name: str, depth: int = 20) -> Definition | None:
    """Finds the definition of a module's `name`, through imports and aliases."""
    if module.name in STANDARD:
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
        owner = find_module(imported_name(expression.value, module) or "?")
        return None if owner is None else member(owner, expression.attr, depth)
    if not isinstance(expression, ast.Name):
        return None
    found = member(module, expression.id, depth)
    if found is None and expression.id not in module.bindings and hasattr(builtins, expression.id):
        return Definition(None, Module(ModuleSpec("builtins", None)), expression.id)
    return found


def imported_name(expression: ast.expr, module: Module) -> str:
    """Returns the dotted name that an expression such as `nn.Module` is imported by, else ""."""
    if isinstance(expression, ast.Attribute):
        owner = imported_name(expression.value, module)
        return f"{owner}.{expression.attr}" if owner else ""
    binding = module.bindings.get(expression.id) if isinstance(expression, ast.Name) else None
    return ".".join(filter(None, binding)) if isinstance(binding, tuple) else ""


def import_target(target: str) -> Any:
    """Returns what a dotted name stands for, as Hydra finds it.

    Raises:
        TargetError: there is no such name, or the import of a module fails; `__cause__` has more.
    """
    name, *parts = target.split(".")
    found: Any = object()
    try:
        found = import_module(name)
        for part in parts:
            name = f"{name}.{part}"
            if isinstance(found, ModuleType) and not hasattr(found, part):
                import_module(name)
            found = getattr(found, part)
        return found
    except (Exception, SystemExit) as error:  # whatever a user's module does
        owner, _, part = name.rpartition(".")
        reason = f"cannot be imported: {line_of(error)}"
        gone = isinstance(error, ModuleNotFoundError) and error.name == name
        if gone and not owner:
            reason = f"no module {name!r} is installed or in this folder"
        elif gone or (isinstance(error, AttributeError) and error.obj is found):
            where = f" ({found.__file__})" if getattr(found, "__file__", None) else ""
            reason = f"{owner}{where} has no {part!r}{nearest(part, dir(found))}"
        raise TargetError(reason, target) from error


def line_of(error: BaseException) -> str:
    """Returns an error in one line, with the last file and line of the user's own code in it."""
    own = [
        (frame.filename, frame.lineno)
        for frame in traceback.extract_tb(error.__traceback__)
        if not (frame.filename.startswith("<") or _is_installed(Path(frame.filename)))
    ]
    text = str(error)
    if isinstance(error, SyntaxError):
        own, text = [(str(error.filename), error.lineno)], error.msg
    where = f"{own[-1][0]}, line {own[-1][1]}: " if own else ""
    return f"{where}{type(error).__name__}: {' '.join(text.split())}"


def _is_installed(path: Path) -> bool:
    """Tells whether a file is Python's, an installed package's or ours, and not the user's."""
    homes = (_FORGER, Path(ast.__file__).parent)
    return "site-packages" in path.parts or any(path.is_relative_to(home) for home in homes)
