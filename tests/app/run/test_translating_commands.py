"""Games of images to images by config: trained, gone on with, loaded; and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from composing import compose_config
from same import differences
from training import latest, resumed, run_folder, short, status_of

import forger
from forger.app.config.check import check
from forger.app.run.load import load_run
from forger.app.run.train import train
from forger.checkpoints.reading import read_checkpoint
from forger.errors import ConfigError, DataError
from forger.sampling.translator import Translator

TRUST = "trust=[translating]"
SMALL = {
    "paired": [],
    "cycle": ["task.pool=20"],
    "cut": ["task.nce_layers=[0,2]", "task.nce_dim=8"],
    "refine": ["task.generator_warmup=1", "task.discriminator_warmup=1", "task.history=20"],
}
MODEL = [  # in the place of a model's and a data set's file
    "model.generator={_target_: translating.Translator}",
    "model.discriminator={_target_: translating.Patches}",
]


def words(folder: Path, *overrides: str, steps: int = 2, data: str = "Dark") -> list[str]:
    own = [*MODEL, "metrics=none", "seed=3", "loss=least_squares", "callbacks.samples.raw=false"]
    own.append(f"data._target_=translating.{data}")
    return latest([*short(folder, steps=steps), *own, *overrides])


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("task", SMALL)
def test_trains_goes_on_exactly_and_is_loaded(task: str, tmp_path: Path) -> None:
    own = [f"task={task}", *SMALL[task]]
    cfg = compose_config("train", *words(tmp_path, *own))
    check(cfg)
    train(cfg)
    run = run_folder(tmp_path)
    train(resumed(run, "trainer.max_steps=4", TRUST))
    assert (status_of(run)["status"], status_of(run)["iteration"]) == ("finished", 4)
    whole = tmp_path / "whole"
    train(compose_config("train", *words(whole, *own, steps=4)))
    last = [read_checkpoint(one / "checkpoints/last.ckpt") for one in (run, run_folder(whole))]
    kept = ("state_dict", "optimizer_states", "task", "source_shape", "data")
    assert not differences(*({key: one[key] for key in kept} for one in last))
    assert last[0]["source_shape"] == [1, 16, 16]
    sampler, gan = forger.load(run, trust=["translating"]), load_run(run, trust=["translating"]).gan
    assert isinstance(sampler, Translator)
    again = gan.task.sampler(gan.ema_generator.module)
    assert torch.equal(sampler.sample(5), again.sample(5))
    assert sampler.sources.float().std() > 0


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["data=mnist_sample"], "data: forger.tasks.Cut translates sources, and forger.data"),
        (["data=mnist_sample", "task=from_noise"], "data: translating.Translator translates"),
        (["model=dcgan"], "model.generator: forger.networks.dcgan.Generator makes images from"),
        (["condition=label"], "condition: forger.tasks.Cut takes none; write condition=none"),
        (["model.prior=uniform"], "model.prior=uniform: forger.tasks.Cut draws no noise by it"),
        (["task=cycle", "augment=diffaugment"], "augment: forger.tasks.Cycle takes none"),
        (["task=paired", "augment=diffaugment"], "augment: forger.tasks.Paired takes none"),
    ],
)
def test_parts_that_do_not_suit_are_refused_first(
    overrides: list[str], told: str, tmp_path: Path
) -> None:
    own = words(tmp_path, "task=cut", *SMALL["cut"])
    chosen = {one.partition("=")[0] for one in overrides}
    if "task" in [one.partition("=")[0] for one in overrides]:
        own = [one for one in own if not one.startswith("task.")]
    if "model" in chosen:
        own = [one for one in own if one not in MODEL]
    if "data" in chosen:
        own = [one for one in own if not one.startswith("data._target_")]
    with pytest.raises(ConfigError, match=told):
        train(compose_config("train", *latest([*own, *overrides])))
    assert not (tmp_path / "logs").exists()


def test_pairs_are_asked_for_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="task: needs pairs, and Unpaired has"):
        train(compose_config("train", *words(tmp_path, "task=paired", data="Unpaired")))
    assert not (tmp_path / "logs").exists()


def test_a_dry_run_tells_both_networks_and_what_images_are_made_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    train(compose_config("train", *words(tmp_path, "task=cycle", "dry_run=true")))
    assert "from sources 1x16x16, and back, EMA 0.999" in caplog.text
    assert "there.layers.0" in caplog.text
    assert "not known" not in caplog.text
