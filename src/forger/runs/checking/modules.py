"""Modules found and parsed without running them. Owns what each says of its names, one by one.

Importing a class to learn its signature would import torch, which takes seconds. `sources` follows
names from module to module.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache, cached_property
from importlib.machinery import ModuleSpec
from importlib.util import resolve_name
from pathlib import Path
from typing import TypeAlias

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Node: TypeAlias = ast.ClassDef | Function | ast.expr
Binding: TypeAlias = Node | tuple[str, str]
"""What a module says of a name: its definition, or `(module, name there)`; "" is all of it."""

# Signs that a module makes names which its source does not spell out.
_DYNAMIC = ("globals()", "exec(", "sys.modules", "import *", "def __getattr__", "__dict__")
STAR = "*"


class Module:
    """A module's source, parsed when first asked for."""

    def __init__(self, spec: ModuleSpec) -> None:
        self.name = spec.name
        origin = spec.origin or ""
        self.path = Path(origin) if origin.endswith(".py") else None
        self.folders = spec.submodule_search_locations

    @cached_property
    def text(self) -> str:
        """The source; empty where there is none to read."""
        try:
            return self.path.read_text(encoding="utf-8") if self.path else ""
        except (OSError, UnicodeDecodeError):
            return ""

    @cached_property
    def bindings(self) -> dict[str, Binding]:
        """What the module's source says of each of its names."""
        found: dict[str, Binding] = {}
        try:
            body = ast.parse(self.text).body
        except (SyntaxError, ValueError):
            return found
        for statement, certain in _statements(body):
            for name, binding in self._bind(statement):
                if certain or name not in found:
                    found[name] = binding
        return found

    @property
    def complete(self) -> bool:
        """Whether a name that `bindings` lacks surely does not exist."""
        return bool(self.text) and not any(sign in self.text for sign in _DYNAMIC)

    @property
    def names(self) -> frozenset[str]:
        """Its public names, its own modules among them: what a typo may have meant."""
        files = (path.stem for folder in self.folders or () for path in Path(folder).glob("*.py"))
        return frozenset(name for name in (*self.bindings, *files) if name[0] not in f"_{STAR}")

    def _bind(self, statement: ast.stmt) -> Iterator[tuple[str, Binding]]:
        if isinstance(statement, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield statement.name, statement
        elif isinstance(statement, ast.ImportFrom):
            source = self._source(statement)
            for alias in statement.names:
                star = f"{STAR}{source}" if alias.name == STAR else None
                yield (star or alias.asname or alias.name, (source, alias.name))
        elif isinstance(statement, ast.Import):
            for alias in statement.names:
                top = alias.name.partition(".")[0]
                yield (alias.asname or top, (alias.name if alias.asname else top, ""))
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    yield target.id, statement.value

    def _source(self, statement: ast.ImportFrom) -> str:
        parent = self.name if self.folders is not None else self.name.rpartition(".")[0]
        try:
            return resolve_name("." * statement.level + (statement.module or ""), parent)
        except ImportError:
            return ""

    def lazy(self, name: str) -> tuple[str, str] | None:
        """Where a package that loads names on first use says that `name` lives, in a table."""
        if "def __getattr__" not in self.text:
            return None
        for value in self.bindings.values():
            if not isinstance(value, ast.Dict):
                continue
            for key, home in zip(value.keys, value.values, strict=True):
                if not (isinstance(key, ast.Constant) and key.value == name):
                    continue
                if isinstance(home, ast.Constant) and isinstance(home.value, str):
                    owner = home.value
                    return (self.name + owner if owner.startswith(".") else owner, name)
        return None


def _statements(body: list[ast.stmt], certain: bool = True) -> Iterator[tuple[ast.stmt, bool]]:
    """Yields what runs at import; the second value is false for fallbacks (`except`, `else`)."""
    for statement in body:
        yield statement, certain
        if isinstance(statement, (ast.If, ast.Try, ast.With)):
            yield from _statements(statement.body, certain)
        if isinstance(statement, (ast.If, ast.Try)):
            yield from _statements(statement.orelse, False)
        if isinstance(statement, ast.Try):
            for handler in statement.handlers:
                yield from _statements(handler.body, False)


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
    return None
