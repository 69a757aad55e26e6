"""A loss, a network and a data set of the user's own, from outside the package."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from composing import compose_config
from omegaconf import DictConfig, OmegaConf
from own_project import training, write_own
from training import Compose, rows, run_folder, status_of

from forger.app.config.check import check
from forger.app.run.evaluate import evaluate
from forger.app.run.train import train
from forger.errors import ConfigError, UserError


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the user's classes and configs, in which commands are given."""
    write_own(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.fixture
def own(project: Path) -> Compose:
    """Composes a config with overrides, from our files and the user's."""

    def composed(*overrides: str, script: str = "train") -> DictConfig:
        search = f"hydra.searchpath=[{project / 'configs'}]"
        return compose_config(script, search, *overrides)

    return composed


def test_own_loss_network_and_data(project: Path, own: Compose) -> None:
    words = ["loss=quadratic", "loss.margin=1.5", "model=linear", "data=stripes"]
    train(own(*training(project, *words)))
    run = run_folder(project)
    assert OmegaConf.load(run / "config.yaml").loss.margin == 1.5
    assert status_of(run)["iteration"] == 2
    with pytest.raises(ConfigError, match="did you mean 'margin'"):
        check(own("loss=quadratic", "+loss.margni=1.5"))


def test_own_features(own: Compose, project: Path) -> None:
    """One class and one YAML, in training and afterwards."""
    overrides = ["metrics=quick", "metrics/features=corners", "metrics.coverage_k=2"]
    few = ["metrics.num_fake=40", "metrics.kid_subset_size=20", "metrics.kid_subsets=3"]
    few += ["metrics.every_n_steps=1", "metrics.features.size=3", "model=linear", "data=stripes"]
    train(own(*training(project, *overrides, *few)))
    run = run_folder(project)
    assert [row["step"] for row in rows(run) if row["val/corners_fid"]] == ["1", "2"]
    assert float(rows(run)[-1]["val/corner_score"]) >= 1
    trust = "trust=[own_networks,own_data,own_features]"
    evaluate(own(f"run={run}", *overrides[1:], trust, script="evaluate"))
    content = json.loads((run / "scores.json").read_text())
    assert content["protocol"]["extractor"] == {"name": "corners", "fingerprint": "corner2"}
    assert content["class_shares"]["classes"] == ["dark", "bright"]


@pytest.mark.parametrize(
    ("overrides", "iterations"),
    [
        ("data=plain loss.n_critic=3", 2),  # three batches per iteration are grouped for it
        ("data=items trainer.max_steps=10 data.low=0", 10),  # mappings, over more than an epoch
    ],
)
def test_a_data_module_that_knows_nothing_of_forger(
    overrides: str, iterations: int, own: Compose, project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    train(own(*training(project, "model=dcgan", *overrides.split())))
    status = status_of(run_folder(project))
    assert (status["status"], status["iteration"]) == ("finished", iterations)
    assert caplog.text.count("all at or above 0") == ("data.low=0" in overrides)
    assert "images 3x16x16" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["data.low=0", "data.high=255"], "; write images / 127.5 - 1"),
        (["data.key=x"], "it has 'label', 'x'"),
        (["data.size=1", "model=vanilla"], "; BatchNorm needs more images than"),
    ],
)
def test_images_that_are_none_stop_before_anything_is_written(
    own: Compose, project: Path, overrides: list[str], told: str
) -> None:
    with pytest.raises(UserError) as caught:
        train(own(*training(project, "data=items", "model=dcgan", *overrides)))
    assert told in str(caught.value)
    assert not (project / "logs").exists()
