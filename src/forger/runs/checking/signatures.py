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

from forger.runs.checking.modules import Function, Module
from forger.runs.checking.sources import Definition, NotFoundError, locate, resolve

# Decorators that leave a function's parameters as they are written.
_TRANSPARENT = {
    "_defaults_from_env_vars",
    "override",
    "staticmethod",
    "classmethod",
    "no_grad",
    "inference_mode",
}
INIT_FREE = {"object", "ABC", "Generic", "Protocol"}


@dataclass(frozen=True)
class Parameter:
    """A parameter as its source writes it; `module` gives the annotation's names a meaning."""

    name: str
    required: bool
    annotation: ast.expr | None
    module: Module = field(repr=False)


@dataclass(frozen=True)
class Signature:
    """What a callable takes by keyword. `open`: names beyond these are, or may be, taken too."""

    parameters: dict[str, Parameter]
    open: bool = False


UNKNOWN = Signature({}, open=True)


@cache
def read(target: str) -> Signature:
    """Reads the signature that `target`, a dotted name, is called with.

    Raises:
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
    defaults = len(arguments.defaults)
    parameters = {
        arg.arg: Parameter(arg.arg, place < len(positional) - defaults, arg.annotation, module)
        for place, arg in enumerate(positional)
    }
    for arg, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        parameters[arg.arg] = Parameter(arg.arg, default is None, arg.annotation, module)
    for arg in arguments.posonlyargs:  # cannot be given by keyword
        parameters.pop(arg.arg, None)
    opaque = {last_name(decorator) for decorator in node.decorator_list} - _TRANSPARENT
    if opaque:
        return UNKNOWN
    return Signature(parameters, open=arguments.kwarg is not None)


def _of_class(node: ast.ClassDef, module: Module) -> Signature | None:
    """Reads a class's constructor; `None` where neither it nor a base defines one."""
    decorators = {last_name(decorator): decorator for decorator in node.decorator_list}
    if node.keywords and any(keyword.arg == "metaclass" for keyword in node.keywords):
        metaclass = next(k.value for k in node.keywords if k.arg == "metaclass")
        if last_name(metaclass) != "ABCMeta":
            return UNKNOWN
    if set(decorators) - {"dataclass", "final", "runtime_checkable", "total_ordering"}:
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


def _of_base(base: ast.expr, module: Module) -> Signature | None:
    if isinstance(base, ast.Subscript):
        base = base.value
    if last_name(base) in INIT_FREE:
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
        if last_name(base) in INIT_FREE:
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
                parameters[name] = Parameter(name, _required(value), statement.annotation, module)
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
    except NotFoundError:
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
