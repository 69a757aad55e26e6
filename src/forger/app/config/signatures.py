"""The signature of a `_target_`, read from its source.

Owns what parameters there are, which of them are required, and their annotations; `kinds` says
which values an annotation admits. A test holds these beside `inspect.signature` of the
real objects. What the source does not tell is left open: such a signature refuses nothing, and the
call itself checks it in full.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from forger.app.config.modules import Function, Module
from forger.app.config.sources import (
    BrokenModuleError,
    Definition,
    NotFoundError,
    locate,
    meaning,
    resolve,
)

_TYPING = ("typing", "typing_extensions")
# Decorators that leave a function's parameters as they are written.
_TRANSPARENT = {
    "_defaults_from_env_vars",
    "override",
    "staticmethod",
    "classmethod",
    "no_grad",
    "inference_mode",
}
_HARMLESS = {"dataclass", "final", "runtime_checkable", "total_ordering"}  # on a class
# Bases that define no constructor.
INIT_FREE = {
    "builtins.object",
    "abc.ABC",
    *(f"{home}.{name}" for home in _TYPING for name in ("Generic", "Protocol")),
}


@dataclass(frozen=True)
class Parameter:
    """A parameter as its source writes it; `module` gives the annotation's names a meaning."""

    name: str
    required: bool
    annotation: ast.expr | None
    module: Module = field(repr=False)
    default: ast.expr | None = None

    def is_default(self, value: Any) -> bool:
        """Tells whether `value` is the default, which is right whatever the annotation says."""
        try:
            default = ast.literal_eval(self.default) if self.default is not None else ...
        except ValueError:  # no literal
            return False
        return type(default) is type(value) and bool(default == value)


@dataclass(frozen=True)
class Signature:
    """What a callable takes by keyword. `open`: names beyond these are, or may be, taken too."""

    parameters: dict[str, Parameter]
    open: bool = False

    @property
    def needed(self) -> set[str]:
        """Names of the parameters without a default."""
        return {name for name, parameter in self.parameters.items() if parameter.required}


UNKNOWN = Signature({}, open=True)


@cache
def read(target: str) -> Signature:
    """Reads the signature that `target`, a dotted name, is called with.

    Raises:
        BrokenModuleError: the module that has it cannot be read.
        NotFoundError: there is no such name.
    """
    owner, _, method = target.rpartition(".")
    definition = locate(target)
    if definition is None:
        return _of_method(owner, method)
    return _of(definition)


def _of(definition: Definition) -> Signature:
    node, module = definition.node, definition.module
    if isinstance(node, ast.ClassDef):
        return _of_class(node, module) or Signature({})
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return _of_function(node, module)
    return UNKNOWN


def _of_function(node: Function, module: Module, bound: bool = False) -> Signature:
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args][bound:]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + [*arguments.defaults]
    parameters = {
        arg.arg: Parameter(arg.arg, default is None, arg.annotation, module, default)
        for arg, default in [
            *zip(positional, defaults[-len(positional) :], strict=True),
            *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
        ]
    }
    for arg in arguments.posonlyargs:  # cannot be given by keyword
        parameters.pop(arg.arg, None)
    opaque = {last_name(decorator) for decorator in node.decorator_list} - _TRANSPARENT
    if opaque:
        return UNKNOWN
    return Signature(parameters, open=arguments.kwarg is not None)


def _of_class(node: ast.ClassDef, module: Module) -> Signature | None:
    """Reads a class's constructor; `None` where neither it nor a base defines one."""
    decorators = {last_name(decorator): decorator for decorator in node.decorator_list}
    if is_opaque(node):
        return UNKNOWN
    methods = {
        statement.name: statement
        for statement in node.body
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    for name in ("__init__", "__new__"):
        if name in methods:
            return _of_function(methods[name], module, bound=True)
    if "dataclass" in decorators and _flag(decorators["dataclass"], "init", True):
        return _of_dataclass(node, module)
    for base in node.bases:
        inherited = _of_base(base, module)
        if inherited is not None:
            return inherited
    return None


def is_opaque(node: ast.ClassDef) -> bool:
    """Tells whether a metaclass or a decorator may make another thing of a class."""
    metaclass = next((k.value for k in node.keywords if k.arg == "metaclass"), None)
    if metaclass is not None and last_name(metaclass) != "ABCMeta":
        return True
    return not {last_name(decorator) for decorator in node.decorator_list} <= _HARMLESS


def _of_base(base: ast.expr, module: Module) -> Signature | None:
    if isinstance(base, ast.Subscript):
        base = base.value
    if meaning(base, module) in INIT_FREE:
        return None
    definition = resolve(base, module)
    if definition is None or not isinstance(definition.node, ast.ClassDef):
        return UNKNOWN
    return _of_class(definition.node, definition.module)


def _of_dataclass(node: ast.ClassDef, module: Module) -> Signature:
    """Gathers the fields of a dataclass and of its bases, in the order of the constructor."""
    parameters: dict[str, Parameter] = {}
    known = True
    for base in reversed(node.bases):
        base = base.value if isinstance(base, ast.Subscript) else base
        if meaning(base, module) in INIT_FREE:
            continue
        definition = resolve(base, module)
        if definition is None or not isinstance(definition.node, ast.ClassDef):
            known = False
        elif "dataclass" in {last_name(decorator) for decorator in definition.node.decorator_list}:
            inherited = _of_dataclass(definition.node, definition.module)
            parameters.update(inherited.parameters)
            known = known and not inherited.open
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name, value = statement.target.id, statement.value
            if _is_field(statement):
                annotation = statement.annotation
                parameters[name] = Parameter(name, _required(value), annotation, module, value)
            elif last_name(statement.annotation) != "ClassVar":
                parameters.pop(name, None)  # field(init=False)
    return Signature(parameters, open=not known)


def _is_field(statement: ast.AnnAssign) -> bool:
    value = statement.value
    if last_name(statement.annotation) in {"ClassVar", "KW_ONLY"}:
        return False
    made = isinstance(value, ast.Call) and last_name(value.func) == "field"
    return not made or _flag(value, "init", True)


def _required(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call) and last_name(value.func) == "field":
        return not any(keyword.arg in {"default", "default_factory"} for keyword in value.keywords)
    return value is None


def _flag(call: ast.expr | None, name: str, default: bool) -> bool:
    if isinstance(call, ast.Call):
        for keyword in call.keywords:
            if keyword.arg == name and isinstance(keyword.value, ast.Constant):
                return bool(keyword.value.value)
    return default


def _of_method(owner: str, name: str) -> Signature:
    """Reads `package.Class.name`, an alternative constructor."""
    try:
        definition = locate(owner)
    except (BrokenModuleError, NotFoundError):
        return UNKNOWN
    if definition is not None and isinstance(definition.node, ast.ClassDef):
        for method in definition.node.body:
            if isinstance(method, ast.FunctionDef) and method.name == name:
                decorators = {last_name(decorator) for decorator in method.decorator_list}
                return _of_function(method, definition.module, bound="classmethod" in decorators)
    return UNKNOWN


def last_name(expression: ast.expr) -> str:
    """The last part of a dotted expression, its call or subscript left off."""
    if isinstance(expression, ast.Call):
        return last_name(expression.func)
    if isinstance(expression, ast.Subscript):
        return last_name(expression.value)
    if isinstance(expression, ast.Attribute):
        return expression.attr
    return expression.id if isinstance(expression, ast.Name) else ""
