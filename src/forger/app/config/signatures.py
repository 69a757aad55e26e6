"""The signature of a `_target_`, read from its source.

What the source does not tell is left open: such a signature refuses nothing, and the call itself
checks it in full.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, TypeAlias

from forger.app.config.messages import nearest
from forger.app.config.source import (
    BrokenModuleError,
    Definition,
    Function,
    Module,
    NotFoundError,
    find_module,
    imported_name,
    locate,
    resolve,
)
from forger.app.config.type_checks import hint_of

Base: TypeAlias = tuple[str, ...]
"""A class by the names it is imported by, the one to show first, and some that derive from it."""

# Decorators that leave a function's parameters as they are written.
_TRANSPARENT = {"_defaults_from_env_vars", "override", "staticmethod", "no_grad", "inference_mode"}
_HARMLESS = {"dataclass", "final", "runtime_checkable", "total_ordering"}  # on a class
# Bases that define no constructor.
_INIT_FREE = {"builtins.object", "abc.ABC", "typing.Generic", "typing.Protocol"}


@dataclass(frozen=True)
class Parameter:
    """A parameter as its source writes it; `module` gives the annotation's names a meaning."""

    name: str
    required: bool
    annotation: ast.expr | None
    module: Module = field(repr=False)
    default: ast.expr | None = None

    @cached_property
    def hint(self) -> Any:
        """The type that the annotation means."""
        return hint_of(self.annotation, self.module)

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


def signature_of(target: Any) -> Signature | str:
    """Returns the signature of a target, or what is wrong with its name."""
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")):
        return "must be a dotted name, such as package.module.Class"
    try:
        definition = locate(target)
    except BrokenModuleError as error:
        return f"cannot be imported: {error}"
    except NotFoundError as error:
        return _not_found(error)
    if definition is None and find_module(target) is not None:
        return "is a module; name a class or a function in it"
    return read_signature(target)


def _not_found(error: NotFoundError) -> str:
    owner, hint = error.owner, nearest(error.missing, error.known)
    if owner is None:
        return f"no module {error.missing!r} is installed or in this folder{hint}"
    ours = owner.name.partition(".")[0] == "forger"
    where = f" ({owner.path})" if owner.path and not ours else ""  # an installed one, perhaps
    return f"{owner.name}{where} has no {error.missing!r}{hint}"


@cache
def read_signature(target: str) -> Signature:
    """Reads the signature that `target`, a dotted name, is called with.

    Raises:
        BrokenModuleError: the module that has it cannot be read.
        NotFoundError: there is no such name.
    """
    definition = locate(target)
    if definition is None:
        return UNKNOWN
    if isinstance(definition.node, ast.ClassDef):
        return _of_class(definition) or Signature({})
    if isinstance(definition.node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return _of_function(definition.node, definition.module)
    return UNKNOWN


def _of_function(node: Function, module: Module, bound: bool = False) -> Signature:
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args][bound:]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + [*arguments.defaults]
    pairs = [
        *zip(positional, defaults[-len(positional) :], strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    parameters = {
        arg.arg: Parameter(arg.arg, default is None, arg.annotation, module, default)
        for arg, default in pairs
        if arg not in arguments.posonlyargs  # which cannot be given by keyword
    }
    if {_last_name(decorator) for decorator in node.decorator_list} - _TRANSPARENT:
        return UNKNOWN
    return Signature(parameters, open=arguments.kwarg is not None)


def _of_class(definition: Definition) -> Signature | None:
    """Reads a class's constructor; `None` where neither it nor a base defines one."""
    node, module = definition.node, definition.module
    if not isinstance(node, ast.ClassDef) or _is_opaque(node):
        return UNKNOWN
    functions = [s for s in node.body if isinstance(s, ast.FunctionDef | ast.AsyncFunctionDef)]
    for name in ("__init__", "__new__"):
        for function in functions:
            if function.name == name:
                return _of_function(function, module, bound=True)
    if _is_dataclass(node):
        return _of_dataclass(definition)
    for base in _bases(definition):
        inherited = UNKNOWN if base is None else _of_class(base)
        if inherited is not None:
            return inherited
    return None


def _bases(definition: Definition) -> list[Definition | None]:
    """Returns a class's bases that may define a constructor; `None`: one that cannot be read."""
    assert isinstance(definition.node, ast.ClassDef)
    plain = [b.value if isinstance(b, ast.Subscript) else b for b in definition.node.bases]
    found = [resolve(base, definition.module) for base in plain]
    return [base for base in found if base is None or base.full_name not in _INIT_FREE]


def _of_dataclass(definition: Definition) -> Signature:
    """Gathers the fields of a dataclass and of its bases, in the order of the constructor."""
    assert isinstance(definition.node, ast.ClassDef)
    parameters: dict[str, Parameter] = {}
    known = True
    for base in reversed(_bases(definition)):
        if base is None or not isinstance(base.node, ast.ClassDef):
            known = False
        elif _is_dataclass(base.node):
            inherited = _of_dataclass(base)
            parameters |= inherited.parameters
            known = known and not inherited.open
    for statement in definition.node.body:
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        name, value, annotation = statement.target.id, statement.value, statement.annotation
        made = _keywords(value) if _last_name(value) == "field" else None
        if _last_name(annotation) in ("ClassVar", "KW_ONLY"):
            continue
        if made is not None and _is_false(made.get("init")):
            parameters.pop(name, None)
            continue
        required = value is None if made is None else not {"default", "default_factory"} & set(made)
        parameters[name] = Parameter(name, required, annotation, definition.module, value)
    return Signature(parameters, open=not known)


def _is_dataclass(node: ast.ClassDef) -> bool:
    decorators = {_last_name(decorator): decorator for decorator in node.decorator_list}
    found = decorators.get("dataclass")
    return found is not None and not _is_false(_keywords(found).get("init"))


def _is_opaque(node: ast.ClassDef) -> bool:
    """Tells whether a metaclass or a decorator may make another thing of a class."""
    metaclass = next((k.value for k in node.keywords if k.arg == "metaclass"), None)
    if metaclass is not None and _last_name(metaclass) != "ABCMeta":
        return True
    return not {_last_name(decorator) for decorator in node.decorator_list} <= _HARMLESS


def _keywords(call: ast.expr | None) -> dict[str | None, ast.expr]:
    return {k.arg: k.value for k in call.keywords} if isinstance(call, ast.Call) else {}


def _is_false(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is False


def _last_name(expression: ast.expr | None) -> str:
    """The last part of a dotted expression, its call or subscript left off."""
    if isinstance(expression, ast.Call):
        return _last_name(expression.func)
    if isinstance(expression, ast.Subscript):
        return _last_name(expression.value)
    if isinstance(expression, ast.Attribute):
        return expression.attr
    return expression.id if isinstance(expression, ast.Name) else ""


def derives(target: str, base: Base) -> bool:
    """Tells whether a target may be used where a class of `base` is needed."""
    try:
        return not base or _derives(locate(target), base)
    except (BrokenModuleError, NotFoundError):
        return True


def _derives(definition: Definition | None, base: Base, depth: int = 20) -> bool:
    """Tells whether a class derives from `base`; what the source does not tell may well do."""
    node = definition.node if definition is not None else None
    if definition is None or depth == 0 or not isinstance(node, ast.ClassDef):
        return True
    # What calling it returns may be another class's object.
    made = any(isinstance(s, ast.FunctionDef) and s.name == "__new__" for s in node.body)
    if definition.full_name in base or _is_opaque(node) or made:
        return True
    # By its name first: torch's modules are long, and reading them takes a while.
    return any(imported_name(parent, definition.module) in base for parent in node.bases) or any(
        _derives(parent, base, depth - 1) for parent in _bases(definition)
    )
