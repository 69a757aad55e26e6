"""Signatures and types read from source are those of the real objects."""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hydra.utils import get_object

from forger.app.config.signatures import Signature, signature_of
from forger.app.config.type_checks import UNKNOWN, correction, refusal

CONFIGS = Path(__file__).parents[3] / "configs"
TARGETS = sorted(
    {
        target
        for path in CONFIGS.rglob("*.yaml")
        if not {"local", "hydra"} & set(path.parts)  # Hydra builds its own
        for target in re.findall(r"_target_: ([\w.]+)", path.read_text())
    }
)
ELSEWHERE = [
    *(f"lightning.pytorch.callbacks.{name}" for name in ("EarlyStopping", "Timer")),
    "lightning.pytorch.callbacks.ModelCheckpoint",
    *("lightning.pytorch.loggers.CSVLogger", "lightning.pytorch.loggers.WandbLogger"),
    *("torch.nn.Linear", "torch.nn.ReLU", "torch.optim.AdamW", "forger.losses.AdversarialLoss"),
    "torch.optim.lr_scheduler.CosineAnnealingLR",
]


def read(target: str) -> Signature:
    found = signature_of(target)
    assert isinstance(found, Signature), found
    return found


@pytest.mark.parametrize("target", TARGETS + ELSEWHERE)
def test_equals_the_real_signature(target: str) -> None:
    real = inspect.signature(get_object(target)).parameters
    kinds = inspect.Parameter
    named = {
        name: parameter.default is kinds.empty
        for name, parameter in real.items()
        if parameter.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
    }
    found = read(target)
    assert {name: p.required for name, p in found.parameters.items()} == named
    assert found.open == any(p.kind is kinds.VAR_KEYWORD for p in real.values())


SOURCE = """
    import collections.abc
    import typing as t
    from collections.abc import Sequence
    from dataclasses import KW_ONLY, InitVar, dataclass, field
    from enum import Enum
    from pathlib import Path
    from typing import Annotated, Any, ClassVar, List, Literal, Optional, Tuple, TypeVar, Union

    import other_{name}
    from forger.bounds import PositiveInt as Count
    from other_{name} import *
    from other_{name} import Base as Renamed, Duration, Maybe as Perhaps, helper

    def trace(function):
        return function

    class Plain:
        def __init__(self, a, b=1, /, c=2, *rest, d, e=3): ...
    class Child(Renamed): ...
    class Grandchild(other_{name}.Base, Generic[int]): ...
    class Builtin(dict): ...
    class Empty: ...
    class Traced:
        @trace
        def __init__(self, a): ...
    @dataclass
    class Fields(other_{name}.Data):
        shared: ClassVar[int] = 1
        own: int
        seeded: InitVar[int] = 0
        hidden: int = field(default=0, init=False)
        _: KW_ONLY
        listed: list = field(default_factory=list)

    Alias = Plain
    assembled = trace(Plain)
    if t.TYPE_CHECKING:
        Either = Plain
    else:
        Either = Child

    Built = Literal["fast", "slow"]
    Width = Count
    Pair = tuple[int, int]
    T = TypeVar("T", bound=int)
    Quoted: t.TypeAlias = "int | None"
    Itself = "Itself | None"
    class Section(Enum):
        A = "a"
    class PositiveFloat: ...
"""
OTHER = """
    from dataclasses import dataclass
    from typing import Optional as Maybe, Union
    class Base:
        def __init__(self, x: int, **kwargs): ...
    @dataclass
    class Data:
        inherited: int
    def helper(a, *, b=1): ...
    Duration = float
    Steps = Union[int, None]
    class str: ...
    Sequence_ = list
"""


@pytest.fixture
def module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[[str], str]:
    """Writes a user's module with something more in it, and returns its name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"{abs(hash(request.node.name))}"

    def write(more: str = "") -> str:
        (tmp_path / f"mine_{name}.py").write_text(dedent(SOURCE.replace("{name}", name)) + more)
        (tmp_path / f"other_{name}.py").write_text(dedent(OTHER))
        return f"mine_{name}"

    return write


@pytest.mark.parametrize(
    ("name", "required", "optional", "takes_more"),
    [
        ("Plain", {"d"}, {"c", "e"}, False),
        ("Alias", {"d"}, {"c", "e"}, False),
        ("Child", {"x"}, set(), True),
        ("Grandchild", {"x"}, set(), True),
        ("helper", {"a"}, {"b"}, False),
        ("Empty", set(), set(), False),
        ("Fields", {"inherited", "own"}, {"seeded", "listed"}, False),
        *((name, set(), set(), True) for name in ("Builtin", "Traced", "assembled", "Either")),
    ],
)
def test_ways_of_writing_python(
    module: Any, name: str, required: set[str], optional: set[str], takes_more: bool
) -> None:
    own = module()
    found = read(f"{own}.{name}")
    assert found.needed == required
    assert found.parameters.keys() - found.needed == optional
    assert found.open is takes_more
    assert own not in sys.modules, "reading must not import"


def test_names_that_are_not_there(module: Any, tmp_path: Path) -> None:
    own = module("def __getattr__(name): ...")
    assert read(f"{own}.Anything").open
    own = module("")
    (tmp_path / "plain.py").write_text("class Plain: ...")
    assert str(signature_of("plain.Plian")).endswith(
        "plain.py) has no 'Plian'; did you mean 'Plain'?"
    )
    assert "no module 'no_such_package' is installed" in str(signature_of("no_such_package.Thing"))
    (tmp_path / "starred.py").write_text("from unknown_c_extension import *")
    (tmp_path / "broken.py").write_text("def f(:")
    assert read("starred.Anything").open
    assert read("broken.Anything").open  # its import will say what is wrong


@pytest.fixture
def admits(module: Any) -> Callable[[str, Any], bool]:
    """Tells whether a parameter with an annotation, and perhaps a default, takes a value."""

    def asks(annotation: str, value: Any) -> bool:
        own = module(f"\ndef f(x: {annotation}): ...\n")
        return refusal(value, read(f"{own}.f").parameters["x"].hint) is None

    return asks


ADMITTED: list[tuple[str, Any]] = [
    *(("float", value) for value in (1, 1.5, 10**30, math.inf, -math.inf, math.nan, 1e-4)),
    *(("Duration", 0.5), ("Built", "fast"), ("Section", "a"), ("PositiveFloat", -1), ("str", 3)),
    *(("Width", 3), ("Count", 1), ("Pair", [1, 2]), ("T", 1), ("Quoted", None), ("Itself", 1)),
    *(("Steps", None), ("Steps", 3), ("Perhaps[int]", None), ("'int'", 3), ("'Pair'", [1, 2])),
    *(("Optional['int']", None), ("int | None", None), ("t.Optional[float]", math.inf)),
    *(("tuple[int, ...]", []), ("Tuple[int, float]", [1, 2]), ("tuple[()]", []), ("List[T]", [1])),
    *(("tuple[int, *tuple[float, ...]]", [1, 2, 3]), ("Sequence_[int]", [1]), ("Path", "a/b")),
    *(("Annotated[int, 'pixels']", 3), ("collections.abc.Sequence[int]", [1]), ("Any", "x")),
    *(("nowhere.Thing", 3), ("dict[str, int]", {"a": 1}), ("Unheard", 3), ("type[int]", "int")),
    *(("int", UNKNOWN), ("list[int]", [1, UNKNOWN]), ("complex", 1), ("float | Unheard", "x")),
    *(("int = None", None), ("int = None", 3)),
]
REFUSED: list[tuple[str, Any]] = [
    *(("float", value) for value in (True, "1", ".inf", None, [1.0])),
    *(("int", value) for value in (1.0, True, "1", math.inf, 2**63)),
    *(("Duration", "00:00:10:00"), ("Built", {"_target_": "x"}), ("Width", 0), ("int = 3", None)),
    *(("Count", 0), ("Pair", [1]), ("Pair", [1, "x"]), ("Quoted", "x"), ("Steps", "x")),
    *(("Perhaps[int]", "x"), ("bool", 1), ("bool", "true"), ("t.Optional[int]", 1.5)),
    *(("Annotated[int, 'pixels']", 3.5), ("Sequence[int]", [1, 2.5]), ("List[int]", 3)),
]


@pytest.mark.parametrize(
    ("annotation", "value", "right"),
    [*((*pair, True) for pair in ADMITTED), *((*pair, False) for pair in REFUSED)],
)
def test_values_of_a_type(annotation: str, value: Any, right: bool, admits: Any) -> None:
    assert admits(annotation, value) is right


@pytest.mark.parametrize(
    ("kind", "value", "meant"),
    [
        *((int, 1e3, 1000), (int, "64", 64), (float, "1e-4", 1e-4), (float, "-inf", -1e999)),
        *((str, 3, "3"), (int, "x", None), (int, 1.5, None), (int, True, None), (int, 1e999, None)),
    ],
)
def test_what_was_meant(kind: type, value: Any, meant: Any) -> None:
    assert correction(value, kind) == meant
