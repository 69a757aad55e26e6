"""The signature of a `_target_`, read from its source.

What the source does not tell is left open: such a signature refuses nothing, and the call itself
checks it in full.
"""

from __future__ import annotations

import ast
import typing
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import import_module
from typing import Any

from forger import bounds
from forger.app.config.source import (
    Definition,
    Function,
    Module,
    NotFoundError,
    find_module,
    imported_name,
    locate,
    resolve,
)

# Decorators that leave the parameters of a function or class as they are written.
_TRANSPARENT = {"_defaults_from_env_vars", "override", "staticmethod", "dataclass", "final"}
# Bases that define no constructor.
_INIT_FREE = {"builtins.object", "abc.ABC", "typing.Generic", "typing.Protocol"}


@dataclass(frozen=True)
class Parameter:
    """A parameter as its source writes it; `module` gives the annotation's names a meaning."""

    required: bool
    annotation: ast.expr | None
    module: Module = field(repr=False)

    @cached_property
    def hint(self) -> Any:
        """The type that the annotation means; `Any` where it is not understood."""
        try:
            return _type_of(self.annotation, self.module)
        except (AttributeError, RecursionError, SyntaxError, TypeError, ValueError):
            return Any


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


def signature_of(target: Any) -> Signature | str:
    """Returns the signature of a target, or what is wrong with its name."""
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")):
        return "must be a dotted name, such as package.module.Class"
    return _read_signature(target)


@cache
def _read_signature(target: str) -> Signature | str:
    try:
        definition = locate(target)
    except NotFoundError as error:
        return str(error)
    if definition is None and find_module(target) is not None:
        return "is a module; name a class or a function in it"
    if definition is not None and isinstance(definition.node, Function):
        return _of_function(definition.node, definition.module)
    return _of_class(definition) or Signature({})


def _of_function(node: Function, module: Module, bound: bool = False) -> Signature:
    if _is_decorated(node):
        return UNKNOWN
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    pairs = [
        *list(zip(positional, defaults, strict=True))[max(bound, len(arguments.posonlyargs)) :],
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    parameters = {}
    for argument, default in pairs:
        annotation = argument.annotation
        if annotation is not None and isinstance(default, ast.Constant) and default.value is None:
            annotation = ast.BinOp(annotation, ast.BitOr(), default)  # `width: int = None`
        parameters[argument.arg] = Parameter(default is None, annotation, module)
    return Signature(parameters, open=arguments.kwarg is not None)


def _of_class(definition: Definition | None) -> Signature | None:
    """Reads a class's constructor; `None` where neither it nor a base defines one."""
    node = definition.node if definition is not None else None
    if definition is None or not isinstance(node, ast.ClassDef) or _is_opaque(node):
        return UNKNOWN
    for name in ("__init__", "__new__"):
        for function in node.body:
            if isinstance(function, ast.FunctionDef) and function.name == name:
                return _of_function(function, definition.module, bound=True)
    bases = _bases(node, definition.module)
    if _is_dataclass(node):
        return _of_dataclass(node, definition.module, bases)
    return next(filter(None, map(_of_class, bases)), None)


def _bases(node: ast.ClassDef, module: Module) -> list[Definition | None]:
    """Returns a class's bases that may define a constructor; `None`: one that cannot be read."""
    plain = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
    found = [resolve(base, module) for base in plain]
    return [base for base in found if base is None or base.full_name not in _INIT_FREE]


def _of_dataclass(
    node: ast.ClassDef, module: Module, bases: typing.Sequence[Definition | None]
) -> Signature:
    """Gathers the fields of a dataclass and of its bases, in the order of the constructor."""
    parameters: dict[str, Parameter] = {}
    is_open = False
    for base in reversed(bases):
        if base is None or _is_dataclass(base.node):
            inherited = _of_class(base) or UNKNOWN
            parameters |= inherited.parameters
            is_open |= inherited.open
    for statement in node.body:
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        name, value = statement.target.id, statement.value
        if _last_name(statement.annotation) in ("ClassVar", "KW_ONLY"):
            continue
        required = value is None
        if isinstance(value, ast.Call) and _last_name(value) == "field":
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in value.keywords}
            if given.get("init") == "False":
                continue
            required = not {"default", "default_factory"} & given.keys()
        parameters[name] = Parameter(required, statement.annotation, module)
    return Signature(parameters, is_open)


def derives(definition: Definition | None, base: str, depth: int = 20) -> bool:
    """Tells whether a class derives from one of the name and package of `base`, or may do."""
    node = definition.node if definition is not None else None
    if definition is None or depth == 0 or not isinstance(node, ast.ClassDef) or _is_opaque(node):
        return True
    if any(isinstance(one, ast.FunctionDef) and one.name == "__new__" for one in node.body):
        return True  # what calling it returns may be another class's object
    parents = [imported_name(parent, definition.module) for parent in node.bases]
    ends = [(name.split(".")[0], name.split(".")[-1]) for name in (definition.full_name, *parents)]
    if (base.split(".")[0], base.split(".")[-1]) in ends:
        return True
    bases = _bases(node, definition.module)
    return any(derives(parent, base, depth - 1) for parent in bases)


def _is_dataclass(node: ast.AST | None) -> bool:
    return isinstance(node, ast.ClassDef) and "dataclass" in map(_last_name, node.decorator_list)


def _is_opaque(node: ast.ClassDef) -> bool:
    """Tells whether a metaclass or a decorator may make another thing of a class."""
    metaclasses = [_last_name(k.value) for k in node.keywords if k.arg == "metaclass"]
    return metaclasses not in ([], ["ABCMeta"]) or _is_decorated(node)


def _is_decorated(node: ast.ClassDef | Function) -> bool:
    return not {_last_name(decorator) for decorator in node.decorator_list} <= _TRANSPARENT


def _last_name(expression: ast.expr) -> str:
    """The last part of a dotted expression, its call or subscript left off."""
    match expression:
        case ast.Call(func=inner) | ast.Subscript(value=inner):
            return _last_name(inner)
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def _type_of(node: ast.AST | None, module: Module) -> Any:
    """Returns the type that an annotation means, with `Any` for all names but those of Python.

    Raises:
        AttributeError, RecursionError, SyntaxError, TypeError, ValueError: it is not understood.
    """
    match node:
        case ast.Constant(value=str(text)):  # a quoted annotation
            return _type_of(ast.parse(text, mode="eval").body, module)
        case ast.Constant(value=value):  # None, or ... in a tuple
            return value
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _type_of(left, module) | _type_of(right, module)
        case ast.Tuple(elts=members):
            return tuple(_type_of(member, module) for member in members)
        case ast.Subscript(value=owner, slice=inside):
            generic = _type_of(owner, module)
            if generic is typing.Literal:
                return typing.Literal[ast.literal_eval(inside)]
            if generic is typing.Annotated and isinstance(inside, ast.Tuple):
                return _type_of(inside.elts[0], module)
            return generic[_type_of(inside, module)]
        case ast.Name() | ast.Attribute():
            found = resolve(node, module)
            if found is None or isinstance(found.node, (ast.ClassDef, *typing.get_args(Function))):
                return Any
            if found.module.name == bounds.__name__:
                return getattr(bounds, found.name)
            if found.node is None:  # of Python's own
                return getattr(import_module(found.module.name), found.name)
            return _type_of(found.node, found.module)
    raise ValueError
