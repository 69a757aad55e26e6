"""What the overrides of a search mean."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from forger.app.sweep.search_space import read_space
from forger.errors import ConfigError


@pytest.mark.parametrize(
    ("override", "distribution"),
    [
        ("x=interval(0.5,2)", FloatDistribution(0.5, 2)),
        ("x=tag(log,interval(1e-4,1))", FloatDistribution(1e-4, 1, log=True)),
        ("x=int(interval(1,8))", IntDistribution(1, 8)),
        ("x=tag(log,int(interval(1,8)))", IntDistribution(1, 8, log=True)),
        ("x=range(1,4)", IntDistribution(1, 3)),
        ("x=range(10,1,-3)", IntDistribution(4, 10, step=3)),
        ("x=range(0,1,0.25)", FloatDistribution(0, 0.75, step=0.25)),
        ("x=a,b", CategoricalDistribution(("a", "b"))),
        ("x=choice(true,false)", CategoricalDistribution(("True", "False"))),
        ("x=[1,2],[3,4]", CategoricalDistribution(("[1,2]", "[3,4]"))),
    ],
)
def test_an_override_means_what_it_means_to_hydra(override: str, distribution: object) -> None:
    assert read_space([override], {}).distributions == {"x": distribution}


def test_a_trial_has_the_fixed_overrides_and_a_value_of_each_other() -> None:
    typed = ["sweep.fail_fast=true", "model=dcgan", "+x=interval(0,1)", "y=[1,2],[3]"]
    own = read_space(typed, {"z": "range(3)"}).overrides({"+x": 1e-05, "y": "[1,2]", "z": 2})
    assert own == ("model=dcgan", "z=2", "+x=1e-05", "y=[1,2]"), "none for the sweep"


def test_the_command_takes_the_place_of_the_recipe() -> None:
    recipe = {"x": "interval(0,1)", "y": "choice(a,b)", "z": 3, "n": None}
    space = read_space(["x=0.5", "+y=c,d"], recipe)
    assert space.fixed == ("z=3", "n=null", "x=0.5")
    assert space.distributions == {"+y": CategoricalDistribution(("c", "d"))}


@pytest.mark.parametrize(
    ("overrides", "params", "told"),
    [
        (["x=interval(2,1)"], {}, "x=interval(2,1)"),
        (["x=tag(log,interval(0,1))"], {}, "x=tag(log,interval(0,1))"),
        (["x=tag(log,range(0.5,2,0.5))"], {}, "x=tag(log,range"),
        (["x=range(3,1)"], {}, "x=range(3,1)"),
        ([], {"x": "intervall(0,1)"}, "hydra.sweeper.params: x=intervall(0,1): cannot be read"),
        ([], {"optimizer": {"lr": "interval(0,1)"}}, "a dotted name"),
    ],
)
def test_senseless_ones_are_refused(overrides: list[str], params: Any, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_space(overrides, params)
    assert told in str(refused.value)
