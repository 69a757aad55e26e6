from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf

from forger.app.run.folder import run_name


@pytest.mark.parametrize(
    ("choices", "seed", "name"),
    [
        ({"model": "dcgan", "loss": "hinge", "data": "mnist"}, 0, "dcgan-hinge-mnist-s0"),
        ({"model": "dcgan", "loss": "hinge", "data": "mnist"}, None, "dcgan-hinge-mnist"),
        ({"model": "mine/wide net", "loss": None}, 7, "mine_wide_net-s7"),
        ({}, None, "run"),
    ],
)
def test_a_run_is_named_by_what_was_chosen(
    choices: dict[str, Any], seed: int | None, name: str
) -> None:
    root = OmegaConf.create({"hydra": {"runtime": {"choices": choices}}, "seed": seed})
    assert run_name(_root_=root) == name
