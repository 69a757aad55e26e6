"""Modules found and parsed without running them. Owns what each says of its names, one by one.

Importing a class to learn its signature would import torch, which takes seconds. `sources` follows
names from module to module.
"""

from __future__ import annotations

import ast
import re
import sys
import warnings
from collections.abc import Iterator
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
STAR = "*"


# What differs between two branches of an `if`: nothing is known of it.
_EITHER = ast.Constant(...)


class Module:
    """A module's source, parsed when first asked for."""

    def __init__(self, spec: ModuleSpec) -> None:
        self.name = spec.name
        origin = spec.origin or ""
        self.path = Path(origin) if origin.endswith(".py") else None
        self.folders = spec.submodule_search_locations
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
    def text(self) -> str:
        """The source; empty where there is none to read."""
        return self._parsed[0]

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
        unknown = self.error is not None or (self.path is None and self.folders is None)
        if unknown or any(sign in self.text for sign in _DYNAMIC):
            return False
        loaded = sys.modules.get(self.name)
        return not re.search(rf"\b{name}\b", self.text) and not hasattr(loaded, name)

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
            yield from _statements(statement.orelse, False)
            for handler in statement.handlers:
                yield from _statements(handler.body, False)


def described(error: Exception, path: str | Path) -> str:
    """Returns the file, line and words of an error in a module's source."""
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
