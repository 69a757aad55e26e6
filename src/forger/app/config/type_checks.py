"""Which values a type admits, for types of our own and annotations read from source.

Understood are `int`, `float`, `bool`, `str`, `None`, unions, `Literal`, lists, tuples, sequences
and mappings of those, the ranges of `forger.bounds`, and aliases of all these. Anything else, a
class say, admits every value: the constructor itself decides.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from functools import reduce
from operator import or_
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from forger import bounds
from forger.app.config.source import Module, resolve


class _Unknown:
    """A value that only the run will know; a message shows that it was interpolated."""

    def __str__(self) -> str:
        return "${...}"


UNKNOWN = _Unknown()
"""A value that only a running job can tell; nothing refuses it."""

_NOTHING = object()  # no value: every type that is understood refuses it
_TOO_LARGE = 2**63  # for torch's whole numbers

_HOMES = ("builtins", "typing", "typing_extensions", "collections.abc", "dataclasses", "pathlib")
_BY_NAME: dict[str, Any] = {
    **{"int": int, "float": float, "bool": bool, "str": str, "Path": Path, "PurePath": Path},
    **{"tuple": tuple, "Tuple": tuple},
    **dict.fromkeys(("list", "List", "Sequence", "Iterable", "Collection"), list),
    **dict.fromkeys(("dict", "Dict", "Mapping", "MutableMapping"), dict),
}
_TYPES = {f"{home}.{name}": kind for home in _HOMES for name, kind in _BY_NAME.items()}


def hint_of(node: ast.expr | None, module: Module, depth: int = 20) -> Any:
    """Returns the type that an annotation means; `Any` where it is not understood.

    Args:
        node: the annotation as its source writes it.
        module: the module that gives its names a meaning.
        depth: how many aliases to follow.
    """
    if isinstance(node, ast.Constant) and isinstance(node.value, str):  # a quoted annotation
        try:
            node = ast.parse(node.value, mode="eval").body
        except SyntaxError:
            return Any
    if node is None or depth == 0:
        return Any
    if isinstance(node, ast.Constant):
        return None if node.value is None else Any
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return hint_of(node.left, module, depth) | hint_of(node.right, module, depth)
    if isinstance(node, ast.Subscript):
        return _generic(node, module, depth)
    found = resolve(node, module)
    if found is None:
        return Any
    if found.module.name == bounds.__name__:
        return getattr(bounds, found.name, Any)
    if isinstance(found.node, ast.Call):
        made_by = resolve(found.node.func, found.module)
        new_type = made_by is not None and made_by.full_name == "typing.NewType"
        return hint_of(found.node.args[1], found.module, depth - 1) if new_type else Any
    if isinstance(found.node, ast.expr):
        return hint_of(found.node, found.module, depth - 1)
    return _TYPES.get(found.full_name, Any)


def _generic(node: ast.Subscript, module: Module, depth: int) -> Any:
    owner, inside = resolve(node.value, module), node.slice
    members = inside.elts if isinstance(inside, ast.Tuple) else [inside]
    if owner is None or owner.module.name not in _HOMES or not members:
        return Any
    if any(isinstance(member, ast.Starred) for member in members):
        return Any
    if owner.name == "Literal":
        try:
            return Literal[tuple(ast.literal_eval(member) for member in members)]
        except ValueError:  # an enum's member
            return Any
    endless = isinstance(members[-1], ast.Constant) and members[-1].value is ...
    hints = [hint_of(member, module, depth) for member in members]
    if owner.name in ("Optional", "Union"):
        return reduce(or_, hints, *([None] if owner.name == "Optional" else []))
    if owner.name in ("Annotated", "InitVar", "Final", "Required"):
        return hints[0]
    kind = _TYPES.get(owner.full_name, Any)
    if kind is tuple:
        return tuple[hints[0], ...] if endless else tuple[tuple(hints)]  # type: ignore[misc,valid-type]
    return list[hints[0]] if kind is list else kind  # type: ignore[valid-type]


def refusal(value: Any, hint: Any) -> str | None:
    """Returns what is allowed, in words, when a type refuses `value`, else `None`.

    Args:
        value: plain data as YAML has it.
        hint: the type; `Annotated` with a function, the function refuses.
    """
    if value is UNKNOWN:
        return None
    kind, members = get_origin(hint) or hint, get_args(hint)
    if kind is Annotated:
        rule: Any = members[1]
        if isinstance(rule, bounds.Range):
            return _too_large(value) or bounds.out_of_bounds(value, hint)
        refused: str | None = rule(value)
        return refused
    if kind in (Union, UnionType):
        refusals = [refusal(value, member) for member in members]
        texts = dict.fromkeys(filter(None, refusals))
        return None if None in refusals else ", or ".join(sorted(texts, key="null".__eq__))
    if kind is Literal:
        return _not_among(value, members)
    if kind is dict:
        return None if isinstance(value, dict) else "a mapping"
    if kind in (list, tuple):
        return _not_a_list(value, members)
    return _SIMPLE[kind](value) if kind in _SIMPLE else None


def _not_among(value: Any, allowed: Sequence[Any]) -> str | None:
    if any(type(value) is type(option) and value == option for option in allowed):
        return None
    names = list(dict.fromkeys("null" if option is None else str(option) for option in allowed))
    return names[0] if len(names) == 1 else "one of " + ", ".join(names)


def _not_a_list(value: Any, members: Sequence[Any]) -> str | None:
    if not isinstance(value, list):
        each = refusal(_NOTHING, members[0]) if members else None
        return "a list" + (f", each {each}" if each else "")
    fixed = len(members) > 1 and members[-1] is not ...
    if fixed and len(value) != len(members):
        return f"a list of {len(members)}"
    hints = members if fixed else [*members[:1]] * len(value)
    refused = (refusal(item, hint) for item, hint in zip(value, hints, strict=False))
    return next((f"a list, each {text}" for text in refused if text is not None), None)


def correction(value: Any, hint: Any) -> Any:
    """Returns what a refused value of the wrong type was meant to be, or `None`: 1000 for 1e3."""
    meant: Any = None
    if isinstance(value, str):
        meant = _number_in(value)
    elif isinstance(value, float) and value.is_integer():
        meant = int(value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        meant = str(value)
    return meant if meant is not None and refusal(meant, hint) is None else None


def _number_in(text: str) -> int | float | None:
    """Returns the number that a text spells, for Python or YAML: '64', '1e-4', '.inf'."""
    plain = re.sub(r"^([+-]?)\.(?=(inf|nan)$)", r"\1", text, flags=re.IGNORECASE)
    for kind in (int, float):
        try:
            return kind(plain)
        except ValueError:
            continue
    return None


def _too_large(value: Any) -> str | None:
    whole = isinstance(value, int) and abs(value) >= _TOO_LARGE
    return f"below 2**{_TOO_LARGE.bit_length() - 1}" if whole else None


def _whole(value: Any) -> str | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return _too_large(value) if whole else "a whole number"


def _number(value: Any) -> str | None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return None if number else "a number"


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) else "text"


def _null(value: Any) -> str | None:
    return None if value is None else "null"


def _switch(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


_SIMPLE = {
    **{
        bool: _switch,
        int: _whole,
        float: _number,
        str: _text,
        Path: _text,
        NoneType: _null,
        None: _null,
    },
}
