"""Which values an annotation admits. Owns the reading of annotations from source, not signatures.

Understood are `int`, `float`, `bool`, `str`, `None`, unions, `Literal`, lists, tuples, sequences
and mappings of those, the ranges of `forger.bounds`, and aliases of all these. Names mean what the
module imports or defines. Anything else, a class say, is unknown and admits every value: the
constructor itself has the last word.
"""

from __future__ import annotations

import ast
import re
from typing import Any

from forger import bounds
from forger.app.config.modules import Module
from forger.app.config.sources import meaning, resolve


class _Unknown:
    """A value that only the run will know; a message shows that it was interpolated."""

    def __str__(self) -> str:
        return "${...}"


UNKNOWN = _Unknown()
"""A value that only a running job can tell; nothing refuses it."""

_NOTHING = object()  # no value: every annotation that is understood refuses it

_TOO_LARGE = 2**63  # for torch's whole numbers

# Where the names below are found.
_GENERIC = {"builtins", "typing", "typing_extensions", "collections.abc", "dataclasses"}
_TUPLES = {"tuple", "Tuple"}
_LISTS = {"list", "List", "Sequence", "Iterable", "Collection", "MutableSequence"}
_MAPPINGS = {"dict", "Dict", "Mapping", "MutableMapping"}
_WRAPPERS = {"Annotated", "InitVar", "Final", "Required"}


def refusal(value: Any, annotation: ast.expr | None, module: Module, depth: int = 20) -> str | None:
    """Returns the words of what is allowed when the annotation refuses `value`, else `None`.

    Args:
        value: plain data as YAML has it.
        annotation: the annotation as its source writes it.
        module: the module that gives the annotation's names a meaning.
        depth: how many aliases to follow.
    """
    if annotation is None or depth == 0 or value is UNKNOWN:
        return None
    if isinstance(annotation, ast.Constant):
        return _constant(value, annotation.value, module, depth)
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return _union(value, [annotation.left, annotation.right], module, depth)
    if isinstance(annotation, ast.Subscript):
        return _subscript(value, annotation, module, depth)
    full = meaning(annotation, module)
    home, _, name = full.rpartition(".")
    if home == bounds.__name__ and hasattr(bounds, name):
        return _too_large(value) or bounds.out_of_bounds(value, getattr(bounds, name))
    if full in _SIMPLE:
        return _SIMPLE[full](value)
    if home in _GENERIC and name in _LISTS | _TUPLES:
        return None if isinstance(value, list) else "a list"
    if home in _GENERIC and name in _MAPPINGS:
        return None if isinstance(value, dict) else "a mapping"
    return _alias(value, annotation, module, depth)


def correction(value: Any, annotation: ast.expr | None, module: Module) -> Any:
    """Returns what a refused value of the wrong kind was meant to be, or `None`: 1000 for 1e3."""
    meant: Any
    if isinstance(value, str):
        meant = _number_of(value)
    elif isinstance(value, float) and value.is_integer():
        meant = int(value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        meant = str(value)
    else:
        return None
    return meant if meant is not None and refusal(meant, annotation, module) is None else None


def _number_of(text: str) -> int | float | None:
    """Returns the number that a text spells, for Python or YAML: '64', '1e-4', '.inf'."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(re.sub(r"^([+-]?)\.(?=(inf|nan)$)", r"\1", text, flags=re.IGNORECASE))
    except ValueError:
        return None


def _constant(value: Any, constant: Any, module: Module, depth: int) -> str | None:
    if constant is None:
        return None if value is None else "null"
    if isinstance(constant, str):  # a quoted annotation
        try:
            return refusal(value, ast.parse(constant, mode="eval").body, module, depth - 1)
        except SyntaxError:
            return None
    return None


def _union(value: Any, members: list[ast.expr], module: Module, depth: int) -> str | None:
    words: dict[str, None] = {}
    for option in sorted(members, key=lambda option: not isinstance(option, ast.Constant)):
        refused = refusal(value, option, module, depth)  # `None` is the quickest to tell
        if refused is None:
            return None
        words[refused] = None
    return ", or ".join(sorted(words, key=lambda word: word == "null"))


def _subscript(value: Any, annotation: ast.Subscript, module: Module, depth: int) -> str | None:
    home, _, name = meaning(annotation.value, module).rpartition(".")
    inside = annotation.slice
    members = inside.elts if isinstance(inside, ast.Tuple) else [inside]
    if home not in _GENERIC or not members or any(isinstance(m, ast.Starred) for m in members):
        return None
    if name == "Optional":
        return _union(value, [inside, ast.Constant(None)], module, depth)
    if name == "Union":
        return _union(value, members, module, depth)
    if name == "Literal":
        return _literal(value, members)
    if name in _WRAPPERS:
        return refusal(value, members[0], module, depth)
    if name in _MAPPINGS:
        return None if isinstance(value, dict) else "a mapping"
    if name in _LISTS:
        return _each(
            value, members * len(value) if isinstance(value, list) else members, module, depth
        )
    if name in _TUPLES:
        if isinstance(members[-1], ast.Constant) and members[-1].value is ...:
            members = members[:1] * (len(value) if isinstance(value, list) else 1)
        elif isinstance(value, list) and len(value) != len(members):
            return f"a list of {len(members)}"
        return _each(value, members, module, depth)
    return None


def _each(value: Any, members: list[ast.expr], module: Module, depth: int) -> str | None:
    if not isinstance(value, list):
        kinds = [refusal(_NOTHING, kind, module, depth) for kind in members[:1]]
        return "a list" + "".join(f", each {words}" for words in kinds if words)
    pairs = zip(value, members, strict=True)
    refusals = (refusal(item, kind, module, depth) for item, kind in pairs)
    return next((f"a list, each {words}" for words in refusals if words is not None), None)


def _literal(value: Any, members: list[ast.expr]) -> str | None:
    allowed: list[Any] = []
    for option in members:
        try:
            allowed.append(ast.literal_eval(option))
        except ValueError:
            return None  # an enum's member
    if any(type(value) is type(option) and value == option for option in allowed):
        return None
    words = list(dict.fromkeys("null" if option is None else str(option) for option in allowed))
    return words[0] if len(words) == 1 else "one of " + ", ".join(words)


def _alias(value: Any, annotation: ast.expr, module: Module, depth: int) -> str | None:
    definition = resolve(annotation, module)
    if definition is None or not isinstance(definition.node, ast.expr):
        return None
    node, home = definition.node, definition.module
    if isinstance(node, ast.Call):
        makes_type = meaning(node.func, home) in ("typing.NewType", "typing_extensions.NewType")
        return refusal(value, node.args[1], home, depth - 1) if makes_type else None
    return refusal(value, node, home, depth - 1)


def _too_large(value: Any) -> str | None:
    whole = isinstance(value, int) and abs(value) >= _TOO_LARGE
    return f"below 2**{_TOO_LARGE.bit_length() - 1}" if whole else None


def _whole(value: Any) -> str | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return _too_large(value) if whole else "a whole number"


def _number(value: Any) -> str | None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return None if number else "a number"


def _switch(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) else "text"


def _null(value: Any) -> str | None:
    return None if value is None else "null"


def _built(value: Any) -> str | None:
    built = isinstance(value, dict) and "_target_" in value
    return None if built else "a mapping with a _target_"


def _duration(value: Any) -> str | None:
    """Admits what Lightning's Timer does, a time of 0 left out: such a run would not begin."""
    if isinstance(value, str) and re.fullmatch(r"\d+:\d\d:\d\d:\d\d", value.strip(), re.ASCII):
        return None if re.search(r"[1-9]", value) else "above zero"
    return "days:hours:minutes:seconds, for example 00:08:00:00"


_SCHEMA = "forger.app.config.schema"
_SIMPLE = {
    "builtins.int": _whole,
    "builtins.float": _number,
    "builtins.bool": _switch,
    "builtins.str": _text,
    "pathlib.Path": _text,
    "pathlib.PurePath": _text,
    "os.PathLike": _text,
    f"{_SCHEMA}.Duration": _duration,
    f"{_SCHEMA}.Built": _built,
}
