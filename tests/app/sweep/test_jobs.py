"""How jobs are told apart."""

from __future__ import annotations

import pytest

from forger.app.sweep.jobs import by_key, differing_keys, value_in


@pytest.mark.parametrize(
    ("jobs", "keys"),
    [
        ([("a=1", "b=1", "c=0"), ("a=1", "b=2", "c=0"), ("a=1", "b=2", "c=1")], ("b", "c")),
        ([("loss=hinge",)], ()),
        ([("+x=1",), ()], ("x",)),
        ([("~callbacks.samples",), ()], ("~callbacks.samples",)),
        ([("+x=1",), ("++x=2",), ("x=3",)], ("x",)),
    ],
)
def test_only_what_differs_counts(jobs: list[tuple[str, ...]], keys: tuple[str, ...]) -> None:
    assert differing_keys(jobs) == keys


def test_overrides_for_the_sweep_and_for_hydra_are_not_shown() -> None:
    hidden = ["sweep.resume=logs/a", "sweep.trial=3", "+hydra.job.num=3", "hydra/launcher=joblib"]
    shown = ["resume_from=a", "sweeps=1", "hydras.x=1"]
    found = by_key([*hidden, "resume=logs/a/3", "~hydra.sweep", *shown])
    assert list(found.values()) == shown


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("name='two words'", "two words"),
        ('name="a=b"', "a=b"),
        ("logger.tags=[a,b]", "[a,b]"),
        ("init_from=a=b", "a=b"),
        ("name=", ""),
        ("~callbacks.samples", "~callbacks.samples"),
    ],
)
def test_values(override: str, expected: str) -> None:
    assert value_in(override) == expected
