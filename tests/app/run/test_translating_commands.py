"""Games of images to images by config: trained, gone on with, loaded; and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from composing import compose_config
from omegaconf import DictConfig
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
FILES = {  # beside our own
    "model/small.yaml": (
        "generator:\n  _target_: translating.Translator\n"
        "discriminator:\n  _target_: translating.Patches\n"
    ),
    **{
        f"data/{name.lower()}.yaml": f"_target_: translating.{name}\nbatch_size: 8\n"
        for name in ("Dark", "Unpaired", "Named")
    },
}


def composed(folder: Path, *overrides: str, steps: int = 2) -> DictConfig:
    """The config of a short run with the files above."""
    for name, content in FILES.items():
        path = folder / "configs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    own = ["model=small", "data=dark", "metrics=none", "seed=3", "loss=least_squares"]
    words = latest([*short(folder, steps=steps), *own, *overrides])
    return compose_config("train", f"hydra.searchpath=[{folder / 'configs'}]", *words)


@pytest.mark.parametrize("task", SMALL)
def test_trains_goes_on_exactly_and_is_loaded(task: str, tmp_path: Path) -> None:
    own = [f"task={task}", *SMALL[task]]
    cfg = composed(tmp_path, *own)
    check(cfg)
    train(cfg)
    run = run_folder(tmp_path)
    train(resumed(run, "trainer.max_steps=4", TRUST))
    assert (status_of(run)["status"], status_of(run)["iteration"]) == ("finished", 4)
    whole = tmp_path / "whole"
    train(composed(whole, *own, steps=4))
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
        (["task=cut", "data=mnist_sample"], "data: forger.tasks.Cut translates sources, and"),
        (["data=mnist_sample"], "data: translating.Translator translates sources, and"),
        (["task=cut", "model=dcgan"], "model.generator: forger.networks.dcgan.Generator makes"),
        (["task=cut", "data=named", "condition=label"], "condition: forger.tasks.Cut takes none"),
        (["task=cut", "model.prior=uniform"], "model.prior=uniform: forger.tasks.Cut draws no"),
        (["task=cycle", "augment=diffaugment"], "augment: forger.tasks.Cycle takes none"),
        (["task=paired", "augment=diffaugment"], "augment: forger.tasks.Paired takes none"),
    ],
)
def test_parts_that_do_not_suit_are_refused_first(
    overrides: list[str], told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=told):
        train(composed(tmp_path, *overrides))
    assert not (tmp_path / "logs").exists()


def test_pairs_are_asked_for_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="task: needs pairs, and Unpaired has"):
        train(composed(tmp_path, "task=paired", "data=unpaired"))
    assert not (tmp_path / "logs").exists()


def test_a_dry_run_tells_both_networks_and_what_images_are_made_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    train(composed(tmp_path, "task=cycle", "dry_run=true"))
    assert "from sources 1x16x16, and back, EMA 0.999" in caplog.text
    assert "Dark, images 1x16x16, sources 1x16x16" in caplog.text
    assert "there.layers.0" in caplog.text
    assert "not known" not in caplog.text
