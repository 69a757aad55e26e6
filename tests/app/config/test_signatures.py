"""Signatures read from source equal those of the real objects."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from hydra.utils import get_object

from forger.app.config.signatures import Signature, read_signature
from forger.app.config.source import NotFoundError

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
    "lightning.pytorch.callbacks.EarlyStopping",
    "lightning.pytorch.callbacks.LearningRateMonitor",
    "lightning.pytorch.callbacks.ModelCheckpoint",
    "lightning.pytorch.callbacks.Timer",
    "lightning.pytorch.loggers.CSVLogger",
    "lightning.pytorch.loggers.WandbLogger",
    "torch.nn.Linear",
    "torch.nn.ReLU",
    "torch.optim.AdamW",
    "torch.optim.lr_scheduler.CosineAnnealingLR",
    "forger.losses.AdversarialLoss",
]


@pytest.fixture(autouse=True)
def _fresh_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("target", TARGETS + ELSEWHERE)
def test_equals_the_real_signature(target: str) -> None:
    real = inspect.signature(get_object(target)).parameters
    kinds = inspect.Parameter
    named = {
        name: parameter.default is kinds.empty
        for name, parameter in real.items()
        if parameter.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
    }
    found = read_signature(target)
    assert {name: p.required for name, p in found.parameters.items()} == named
    assert found.open == any(p.kind is kinds.VAR_KEYWORD for p in real.values())


def test_no_target_is_left_unread() -> None:
    assert TARGETS
    unread = [target for target in TARGETS if read_signature(target) == Signature({}, open=True)]
    assert unread == []


SOURCE = """
    from dataclasses import KW_ONLY, InitVar, dataclass, field
    from functools import wraps
    from typing import ClassVar
    import other_{name}
    from other_{name} import Base as Renamed, helper

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
"""
OTHER = """
    from dataclasses import dataclass
    class Base:
        def __init__(self, x: int, **kwargs): ...
    @dataclass
    class Data:
        inherited: int
    def helper(a, *, b=1): ...
"""


@pytest.fixture
def module(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    name = re.sub(r"\W", "_", request.node.name)
    (tmp_path / f"mine_{name}.py").write_text(dedent(SOURCE.replace("{name}", name)))
    (tmp_path / f"other_{name}.py").write_text(dedent(OTHER))
    return f"mine_{name}"


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
        ("Builtin", set(), set(), True),
        ("Traced", set(), set(), True),
        ("assembled", set(), set(), True),
    ],
)
def test_ways_of_writing_python(
    module: str, name: str, required: set[str], optional: set[str], takes_more: bool
) -> None:
    found = read_signature(f"{module}.{name}")
    assert {n for n, p in found.parameters.items() if p.required} == required
    assert {n for n, p in found.parameters.items() if not p.required} == optional
    assert found.open is takes_more
    assert module not in sys.modules, "reading must not import"


def test_a_name_that_is_not_there(module: str) -> None:
    with pytest.raises(NotFoundError, match=rf"{module} .*no 'Plian'; did you mean 'Plain'"):
        read_signature(f"{module}.Plian")
    with pytest.raises(NotFoundError, match="no module 'no_such_package' is installed"):
        read_signature("no_such_package.Thing")


def test_what_a_lazy_package_may_hold_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "lazy_one.py").write_text("def __getattr__(name): ...")
    (tmp_path / "starred.py").write_text("from unknown_c_extension import *")
    assert read_signature("lazy_one.Anything").open
    assert read_signature("starred.Anything").open
