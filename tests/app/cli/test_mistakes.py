"""Mistakes that people make, each with what they read, and how soon: before torch is imported."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import pytest
from training import ROOT, command

from forger import hardware
from forger.app.config.command import Command
from forger.app.config.compose import find_mistakes

MISTAKES = {
    # names
    "model=dcgna": (
        "model=dcgna: no such choice; did you mean 'dcgan'? Allowed: biggan, dcgan, dfgan, "
        "r3gan, resnet_patchgan, simgan, sndcgan, sngan, stackgan, stylegan2, subpixel, "
        "unet_patchgan, vanilla, wgan_gp_resnet"
    ),
    "model=dcgan model=vanilla": (
        "model=vanilla: model=dcgan was written too; leave one of them out"
    ),
    "logger=wandb logger=tensorboard": (
        "logger=tensorboard: logger=wandb was written too; write logger=[wandb,tensorboard] for "
        "both"
    ),
    "sede=1": (
        "sede=1: unknown setting; did you mean 'seed'? Allowed: data, debug, experiment, loss, "
        "model, moved, name, objective, resume, schedule, seed, sweep and 17 more"
    ),
    "condition.generator=concat": (
        "condition.generator=concat: unknown setting of forger.conditions.Condition; it is a "
        "setting of condition=label"
    ),
    "+model.generator.dept=3": (
        "model.generator.dept=3: unknown setting of forger.networks.mlp.Generator. "
        "Allowed: hidden, latent_dim, norm"
    ),
    "loss.gamma=1": (
        "loss.gamma=1: unknown setting of forger.losses.NonSaturating; did you mean 'r1_gamma'? "
        "Allowed: cr, cr_fake, cr_flip, label_smoothing, lecam, lecam_decay, lecam_start, "
        "matching, matching_interval, matching_power, n_critic, path_length, "
        "path_length_interval, penalty_interval, r1_gamma, r2_gamma, "
        "weight_clip, zcr_d, zcr_g, zcr_radius; it is a setting of loss=r3gan"
    ),
    "dcgan": "dcgan: is not a setting; write model=dcgan",
    # values
    "loss.n_critic=0": "loss.n_critic=0: must be a whole number of at least 1",
    "optimizer.lr=nan": "optimizer.lr=nan: must be a number above 0",
    "trainer.max_steps=1e4": (
        "trainer.max_steps=10000.0: must be a whole number of at least 1, or -1; write 10000"
    ),
    "trainer.max_time=8m": (
        "trainer.max_time=8m: must be days:hours:minutes:seconds, for example 00:08:00:00, or null"
    ),
    "seed=0,1": (
        "seed=0,1: several values; add -m for a run of each, or write seed=[...] for a list"
    ),
    "seed=99999999999999999999": ("seed=99999999999999999999: must be below 2**63, or null"),
    "data.root=${paths.data}": "data.root=${paths.data}: Interpolation key 'paths.data' not found",
    "~model.generator": ("model.generator: is needed and missing; write model.generator=<value>"),
    "loss._target_=torch.nn.BCELoss": (
        "loss._target_=torch.nn.BCELoss: must derive from forger.losses.AdversarialLoss"
    ),
    # contradictions
    "+trainer.min_steps=9 trainer.max_steps=5": (
        "trainer.min_steps=9: is above trainer.max_steps=5"
    ),
    "+trainer.gradient_clip_val=1": (
        "trainer.gradient_clip_val=1: is for one network; write "
        "model.gradient_clip.generator=<norm>"
    ),
    "+trainer.fast_dev_run=true": (
        "trainer.fast_dev_run=true: would leave no metrics and no checkpoint; write debug=smoke"
    ),
    "optimizer.lr=1e-3 optimizer.generator.lr=1e-4 optimizer.discriminator.lr=2e-4": (
        "optimizer.lr=1e-3: does nothing, optimizer.generator and optimizer.discriminator have "
        "their own; leave it out"
    ),
    "model=subpixel model.discriminator.norm=spectral": (
        "model.discriminator.norm=spectral: unknown setting of "
        "forger.networks.subpixel.Discriminator. Allowed: hidden, width; it is a setting of "
        "model=dcgan or model=resnet_patchgan or model=stackgan or model=unet_patchgan or "
        "model=vanilla"
    ),
    "trainer=cpu trainer.devices=2 trainer.strategy=single_device": (
        "trainer.strategy=single_device: trains in one process, and 2 are asked for; write "
        "trainer.strategy=ddp"
    ),
    # this machine
    "trainer=gpu": (
        "trainer.accelerator=gpu: no GPU is visible here; write trainer=cpu or trainer=auto"
    ),
    "trainer=cpu trainer.precision=16-mixed": (
        "trainer.precision=16-mixed: needs a GPU; write bf16-mixed or 32-true"
    ),
    "data=image_folder data.root=no/such/folder": (
        "data.root=no/such/folder: there is no such folder; write data.root=<folder of images>"
    ),
    "hydra.job.chdir=true": (
        "hydra.job.chdir=true: relative paths, paths.data_dir for one, would mean others; "
        "leave it out"
    ),
}


@pytest.mark.parametrize("overrides", MISTAKES)
def test_what_is_said(overrides: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "visible_gpus", list)
    monkeypatch.setattr(hardware, "has_mps", lambda: False)
    assert find_mistakes(Command(ROOT / "configs", "train", tuple(overrides.split()))) == [
        MISTAKES[overrides]
    ]


def test_the_answer_takes_little_longer_than_importing_hydra(tmp_path: Path) -> None:
    """At most three times as long; with other work on the machine, one of three tries is enough.

    Both commands in turn, so that what slows one slows the other, and the mistakes in rotation.
    """
    (tmp_path / "alone.py").write_text("import hydra")
    ratios = []
    for attempt in range(3):
        refusals, imports = list[float](), list[float]()
        for overrides in list(MISTAKES)[attempt::6]:
            imports.append(_seconds(tmp_path, tmp_path / "alone.py"))
            refusals.append(_seconds(tmp_path, ROOT / "train.py", *overrides.split()))
        ratios.append(statistics.median(refusals) / statistics.median(imports))
        if ratios[-1] <= 3:
            break
    assert min(ratios) <= 3, "times as long as importing hydra"


def _seconds(cwd: Path, script: Path, *overrides: str) -> float:
    began = time.perf_counter()
    command(*overrides, cwd=cwd, script=script)
    return time.perf_counter() - began
