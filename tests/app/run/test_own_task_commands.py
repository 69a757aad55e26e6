"""A task of the user's own, in a folder of theirs: trained, resumed, scored, sampled, loaded."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from composing import compose_config
from omegaconf import DictConfig, OmegaConf
from own_task import NAME, write_own_task
from PIL import Image
from same import differences
from training import Compose, latest, resumed, rows, run_folder, short, status_of

import forger
from forger.app.config.check import check
from forger.app.run.evaluate import evaluate
from forger.app.run.generate import generate
from forger.app.run.load import load_run
from forger.app.run.train import train
from forger.checkpoints.reading import read_checkpoint
from forger.errors import ConfigError, UserError
from forger.pictures import pixel_grid, to_pixels

TRUST = f"trust=[{NAME}]"
WORDS = ["model=translators", "task=negatives", "loss=least_squares", "metrics=none", "seed=3"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the user's module and configs, in which commands are given."""
    write_own_task(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop(NAME, None)


@pytest.fixture
def own(project: Path) -> Compose:
    """Composes a config with overrides, from our files and the user's."""

    def composed(*overrides: str, script: str = "train") -> DictConfig:
        search = f"hydra.searchpath=[{project / 'configs'}]"
        return compose_config(script, search, *overrides)

    return composed


def training(folder: Path, *overrides: str, steps: int = 4) -> list[str]:
    return latest([*short(folder, steps=steps), *WORDS, *overrides])


@pytest.fixture
def run(own: Compose, project: Path) -> Path:
    """A run of two iterations."""
    train(own(*training(project, steps=2)))
    return run_folder(project)


def test_a_run_is_checked_trained_and_told(own: Compose, project: Path, caplog) -> None:
    caplog.set_level("INFO")
    cfg = own(*training(project, "task.cycle_weight=2", "dry_run=true"))
    check(cfg)
    train(cfg)
    assert "Cycle, EMA 0.999" in caplog.text
    assert "Conv2d" in caplog.text
    assert not (project / "logs").exists()
    train(own(*training(project, "task.cycle_weight=2", steps=1)))
    run = run_folder(project)
    assert OmegaConf.load(run / "config.yaml").task == {
        "_target_": f"{NAME}.Cycle",
        "cycle_weight": 2,
    }
    assert np.isfinite(float(rows(run)[-1]["train/cycle"]))


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("+task.cylce_weight=2", "did you mean 'cycle_weight'"),
        ("+task.loss=3", "write loss=<choice>"),
        ("task.cycle_weight=much", "task.cycle_weight=much: "),
        (f"task._target_={NAME}.Cylce", "did you mean 'Cycle'"),
        (f"task._target_={NAME}.Patches", "takes no discriminator, which it will be given"),
    ],
)
def test_mistakes_in_a_task_are_told_first(override: str, told: str, own: Compose) -> None:
    with pytest.raises(ConfigError) as caught:
        check(own(*WORDS, override))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("model.prior=uniform", f"model.prior=uniform: {NAME}.Cycle draws no noise by it; leave"),
        ("condition=label", f"condition: {NAME}.Cycle takes none; write condition=none"),
    ],
)
def test_nothing_that_the_task_does_not_take_is_ignored(
    override: str, told: str, own: Compose, project: Path
) -> None:
    model = [] if override.startswith("model") else ["model=vanilla"]
    with pytest.raises(ConfigError) as caught:
        train(own(*training(project, *model, override)))
    assert told in str(caught.value)
    assert not (project / "logs").exists()


@pytest.mark.parametrize(
    ("right", "wrong", "line"),
    [
        ('return {"image": self.run', 'return {"image": 1 / 0 + self.run', "ZeroDivisionError"),
        ('self.logits(fakes["image"])', 'self.logits(fakes["imgae"])', "KeyError: 'imgae'"),
    ],
)
def test_what_fails_in_a_task_is_told_with_its_line_before_anything_is_written(
    right: str, wrong: str, line: str, own: Compose, project: Path
) -> None:
    source = project / f"{NAME}.py"
    assert right in source.read_text()
    source.write_text(source.read_text().replace(right, wrong))
    with pytest.raises(ConfigError, match=rf"task: Cycle fails: .*{NAME}\.py, line \d+: {line}"):
        train(own(*training(project)))
    assert not (project / "logs").exists()


def test_a_loss_with_penalties_is_refused(own: Compose, project: Path) -> None:
    with pytest.raises(ConfigError, match="loss: Cycle adds no penalties; choose a loss without"):
        train(own(*training(project, "loss.r1_gamma=1")))


def test_goes_on_to_the_bits_of_a_run_that_was_not_interrupted(
    run: Path, own: Compose, project: Path
) -> None:
    train(resumed(run, "trainer.max_steps=4", TRUST))
    assert (status_of(run)["status"], status_of(run)["iteration"]) == ("finished", 4)
    whole = project / "whole"
    train(own(*training(whole, f"paths.cache_dir={project / 'cache'}")))
    contents = [
        read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (run, run_folder(whole))
    ]
    states = [
        {key: one[key] for key in ("state_dict", "optimizer_states", "task")} for one in contents
    ]
    assert not differences(*states)
    assert states[0]["task"][0]["pool"].shape[0] == 40


def test_is_scored_and_sampled_only_where_it_is_trusted(
    run: Path, own: Compose, project: Path
) -> None:
    grid = np.asarray(Image.open(run / "samples" / "last.png"))
    few = ["metrics.num_fake=40", "metrics.coverage_k=2", "metrics.kid_subset_size=20"]
    few += ["metrics.kid_subsets=3", "metrics/features=pixels"]
    for script, command in (("evaluate", evaluate), ("generate", generate)):
        words = few if script == "evaluate" else ["n=4"]
        with pytest.raises(UserError, match=rf"write trust=\[{NAME}\]"):
            command(own(f"run={run}", *words, script=script))
        command(own(f"run={run}", *words, TRUST, script=script))
    scores = json.loads((run / "scores.json").read_text())
    assert scores
    with pytest.raises(ConfigError, match="takes no noise to walk through"):
        generate(own(f"run={run}", "walk.noise=true", TRUST, script="generate"))
    (made,) = (run / "generated").iterdir()
    assert np.array_equal(np.asarray(Image.open(made / "grid.png")), grid)
    sampler = forger.load(run, trust=[NAME])
    found = pixel_grid(to_pixels(sampler.sample(4))).numpy()
    assert np.array_equal(grid.squeeze(), found.squeeze())
    whole = load_run(run, trust=[NAME])
    assert type(whole.gan.task).__name__ == "Cycle"
    assert torch.equal(whole.gan.task.sources, sampler.sources)
