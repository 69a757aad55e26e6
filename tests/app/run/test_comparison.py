from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from forger.app.run.comparison import alike, differing_settings


def run(folder: Path, choices: dict[str, str], **settings: Any) -> Any:
    folder.mkdir()
    (folder / "environment.json").write_text(json.dumps({"choices": choices}))
    return SimpleNamespace(folder=folder, cfg=OmegaConf.create({"seed": 0} | settings))


def test_a_choice_stands_for_the_settings_below_it(tmp_path: Path) -> None:
    mlp = {"generator": {"_target_": "mlp.Generator", "hidden": [1]}, "ema_decay": 0.9}
    dcgan = {"generator": {"_target_": "dcgan.Generator", "width": 8}, "ema_decay": 0.5}
    runs = [
        run(tmp_path / "a", {"model": "vanilla", "loss": "hinge"}, model=mlp, name="x"),
        run(tmp_path / "b", {"model": "dcgan", "loss": "hinge"}, model=dcgan, name="y"),
    ]
    assert differing_settings(runs) == [{"model": "vanilla"}, {"model": "dcgan"}]


def test_a_shared_setting_stands_for_those_that_take_it(tmp_path: Path) -> None:
    def optimizer(lr: float, of_d: float | None = None) -> dict[str, Any]:
        return {"lr": lr, "generator": {"lr": lr}, "discriminator": {"lr": of_d or lr}}

    runs = [run(tmp_path / str(lr), {}, optimizer=optimizer(lr)) for lr in (0.1, 0.2)]
    assert differing_settings(runs) == [{"optimizer.lr": "0.1"}, {"optimizer.lr": "0.2"}]
    runs = [run(tmp_path / f"d{lr}", {}, optimizer=optimizer(0.1, of_d=lr)) for lr in (0.3, 0.4)]
    assert differing_settings(runs) == [
        {"optimizer.discriminator.lr": "0.3"},
        {"optimizer.discriminator.lr": "0.4"},
    ]


def test_runs_that_differ_in_their_seed_alone_are_alike(tmp_path: Path) -> None:
    settings = [
        {"loss": "hinge", "model": "vanilla"},
        {"loss": "minimax", "model": "vanilla"},
        {"loss": "hinge", "model": "vanilla"},
    ]
    assert alike(settings) == [[0, 2], [1]]
    runs = [run(tmp_path / str(seed), {}, seed=seed) for seed in (0, 1)]
    assert differing_settings(runs) == [{}, {}]


def test_a_run_without_its_record_is_told_apart_by_its_settings(tmp_path: Path) -> None:
    runs = [run(tmp_path / str(decay), {}, model={"ema_decay": decay}) for decay in (0.1, 0.2)]
    (runs[0].folder / "environment.json").write_text("[]")
    (runs[1].folder / "environment.json").unlink()
    found = differing_settings(runs)
    assert found == [{"model.ema_decay": "0.1"}, {"model.ema_decay": "0.2"}]


@pytest.mark.parametrize("content", ["", "{", '{"choices": 3}'])
def test_a_damaged_record_has_no_choices(tmp_path: Path, content: str) -> None:
    one = run(tmp_path / "a", {})
    (one.folder / "environment.json").write_text(content)
    assert differing_settings([one]) == [{}]
