"""Which values a type admits.

Understood are `int`, `float`, `bool`, `str`, `None`, unions, `Literal`, lists, tuples, sequences
and mappings of those, and the ranges of `forger.bounds`. Anything else, a class say, admits every
value: the constructor itself decides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from forger import bounds


class _Unknown:
    """A value that only the run will know; a message shows that it was interpolated."""

    def __str__(self) -> str:
        return "${...}"


UNKNOWN = _Unknown()
"""A value that only a running job can tell; nothing refuses it."""

_NOTHING = object()  # no value: every type that is understood refuses it
_SIMPLE: dict[Any, tuple[tuple[type, ...], str]] = {  # with the values that YAML has for them
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "text"),
    Path: ((str,), "text"),
    None: ((NoneType,), "null"),
    NoneType: ((NoneType,), "null"),
    **dict.fromkeys((dict, Mapping, MutableMapping), ((dict,), "a mapping")),
}
_LISTS = (list, tuple, Sequence, Iterable, Collection)


def refusal(value: Any, hint: Any) -> str | None:
    """Returns what is allowed when a type refuses a value as YAML has it, else `None`."""
    if value is UNKNOWN:
        return None
    kind, members = get_origin(hint) or hint, get_args(hint)
    whole = int in (kind, *members) and kind in (int, Annotated)
    if whole and isinstance(value, int) and abs(value) >= 2**63:
        return "below 2**63"  # as torch's whole numbers
    if kind is Annotated and isinstance(members[1], bounds.Range):
        return bounds.out_of_bounds(value, hint)
    if kind is Annotated:
        refused: str | None = members[1](value)
        return refused
    if kind in (Union, UnionType):
        refusals = [refusal(value, member) for member in members]
        texts = dict.fromkeys(filter(None, refusals))
        return None if None in refusals else ", or ".join(sorted(texts, key="null".__eq__))
    if kind is Literal:
        return _not_among(value, members)
    if kind in _LISTS:
        return _not_a_list(value, members)
    types, text = _SIMPLE.get(kind, ((object,), ""))
    right = isinstance(value, types) and not (isinstance(value, bool) and int in types)
    return None if right else text


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
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    for convert in (int, float, str):
        try:
            meant: Any = convert(value)
        except (OverflowError, ValueError):
            continue
        if (meant == value or str in (convert, type(value))) and refusal(meant, hint) is None:
            return meant
    return None
