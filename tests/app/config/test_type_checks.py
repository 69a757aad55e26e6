"""Which values an annotation of a user's own module admits, in every way of writing it."""

from __future__ import annotations

import math
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from forger.app.config.signatures import read_signature
from forger.app.config.type_checks import UNKNOWN, correction, refusal

BEFORE = """
    from __future__ import annotations
    import collections.abc
    import typing as t
    from collections.abc import Sequence
    from dataclasses import dataclass
    from enum import Enum
    from pathlib import Path
    from typing import Annotated, Any, List, Literal, NewType, Optional, Tuple, TypeVar, Union
    from forger.bounds import PositiveInt as Count
    from own_{name} import Duration, Maybe as Perhaps, Steps
    from own_{name} import *

    Built = Literal["fast", "slow"]
    Seconds = NewType("Seconds", float)
    Width = Count
    Pair = tuple[int, int]
    T = TypeVar("T", bound=int)
    Quoted: t.TypeAlias = "int | None"
    class Section(Enum):
        A = "a"
    class PositiveFloat: ...
    class Path_: ...
"""
OWN = """
    from typing import Optional as Maybe, Union
    Duration = float
    Steps = Union[int, None]
    class str: ...
    Sequence_ = list
"""


@pytest.fixture
def admits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """Tells whether a parameter with an annotation takes a value."""
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"{abs(hash(request.node.name))}"

    def asks(annotation: str, value: Any) -> bool:
        source = BEFORE.replace("{name}", name) + f"\n    def f(x: {annotation}): ...\n"
        (tmp_path / f"kinds_{name}.py").write_text(dedent(source))
        (tmp_path / f"own_{name}.py").write_text(dedent(OWN))
        hint = read_signature(f"kinds_{name}.f").parameters["x"].hint
        return refusal(value, hint) is None

    return asks


ADMITTED: list[tuple[str, Any]] = [
    *(("float", value) for value in (1, 1.5, 10**30, math.inf, -math.inf, math.nan, 1e-4)),
    *(("Duration", 0.5), ("Built", "fast"), ("Section", "a"), ("PositiveFloat", -1), ("str", 3)),
    *(("Seconds", 1), ("Width", 3), ("Count", 1), ("Pair", [1, 2]), ("T", 1), ("Quoted", None)),
    *(("Steps", None), ("Steps", 3), ("Perhaps[int]", None), ("'int'", 3), ("'Pair'", [1, 2])),
    *(("Optional['int']", None), ("int | None", None), ("t.Optional[float]", math.inf)),
    *(("tuple[int, ...]", []), ("Tuple[int, float]", [1, 2]), ("tuple[()]", []), ("List[T]", [1])),
    *(("tuple[int, *tuple[float, ...]]", [1, 2, 3]), ("Sequence_[int]", [1]), ("Path", "a/b")),
    *(("Annotated[int, 'pixels']", 3), ("collections.abc.Sequence[int]", [1]), ("Any", "x")),
    *(("nowhere.Thing", 3), ("dict[str, int]", {"a": 1}), ("Unheard", 3), ("type[int]", "int")),
    *(("int", UNKNOWN), ("list[int]", [1, UNKNOWN]), ("complex", 1), ("float | Unheard", "x")),
]
REFUSED: list[tuple[str, Any]] = [
    *(("float", value) for value in (True, "1", ".inf", None, [1.0])),
    *(("int", value) for value in (1.0, True, "1", math.inf, 2**63)),
    *(("Duration", "00:00:10:00"), ("Built", {"_target_": "x"}), ("Width", 0)),
    *(("Count", 0), ("Pair", [1]), ("Pair", [1, "x"]), ("Quoted", "x"), ("Steps", "x")),
    *(("Perhaps[int]", "x"), ("bool", 1), ("bool", "true"), ("t.Optional[int]", 1.5)),
    *(("Annotated[int, 'pixels']", 3.5), ("Sequence[int]", [1, 2.5]), ("List[int]", 3)),
]


@pytest.mark.parametrize(("annotation", "value"), ADMITTED)
def test_right(annotation: str, value: Any, admits: Any) -> None:
    assert admits(annotation, value)


@pytest.mark.parametrize(("annotation", "value"), REFUSED)
def test_wrong(annotation: str, value: Any, admits: Any) -> None:
    assert not admits(annotation, value)


@pytest.mark.parametrize(
    ("annotation", "value", "meant"),
    [
        *(("int", 1e3, 1000), ("int", "64", 64), ("float", "1e-4", 1e-4), ("float", ".inf", 1e999)),
        *(("float", "-.INF", -1e999), ("str", 3, "3"), ("int", "x", None), ("int", 1.5, None)),
    ],
)
def test_what_was_meant(annotation: str, value: Any, meant: Any) -> None:
    hint = {"int": int, "float": float, "str": str}[annotation]
    assert correction(value, hint) == meant
