"""Mistakes that people make, each with what they read, and how soon: before torch is imported."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from forger import hardware
from forger.app.config.command import Command
from forger.app.config.compose import find_mistakes

ROOT = Path(__file__).parents[3]

MISTAKES = {
    # names
    "model=dcgna": (
        "model=dcgna: no such choice; did you mean 'dcgan'? Allowed: dcgan, subpixel, vanilla"
    ),
    "model=hinge": (
        "model=hinge: no such choice, but loss=hinge is one. Allowed: dcgan, subpixel, vanilla"
    ),
    "model=dcgan model=vanilla": (
        "model=vanilla: model=dcgan was written too; leave one of them out"
    ),
    "logger=wandb logger=tensorboard": (
        "logger=tensorboard: logger=wandb was written too; write logger=[wandb,tensorboard] for "
        "both"
    ),
    "sede=1": (
        "sede=1: unknown setting; did you mean 'seed'? Allowed: callbacks, compile, data, debug, "
        "dry_run, experiment, hparams_search, init_from, local, logger, loss, metrics, model, "
        "moved, name, objective, optimizer, paths, resume, schedule, seed, sweep, trainer, trust"
    ),
    "+model.generator.dept=3": (
        "model.generator.dept=3: unknown setting of forger.networks.mlp.Generator. "
        "Allowed: hidden, latent_dim, norm"
    ),
    "loss.gamma=1": (
        "loss.gamma=1: unknown setting of forger.losses.NonSaturating; did you mean 'r1_gamma'? "
        "Allowed: label_smoothing, n_critic, penalty_interval, r1_gamma, r2_gamma, weight_clip; "
        "it is a setting of loss=r3gan"
    ),
    "dcgan": "dcgan: is not a setting; write model=dcgan",
    # values
    "loss.n_critic=0": "loss.n_critic=0: must be a whole number of at least 1",
    "optimizer.lr=nan": "optimizer.lr=nan: must be a number above 0",
    "optimizer.betas=[0.5]": "optimizer.betas=[0.5]: must be a list of 2",
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
    "+trainer.accumulate_grad_batches=2": (
        "trainer.accumulate_grad_batches=2: is for one network; write "
        "model.accumulate.generator=<batches>"
    ),
    "+trainer.fast_dev_run=true": (
        "trainer.fast_dev_run=true: would leave no metrics and no checkpoint; write debug=smoke"
    ),
    "+trainer.val_check_interval=100": (
        "trainer.val_check_interval=100: is for what train.py never does; leave it out"
    ),
    "optimizer.lr=1e-3 optimizer.generator.lr=1e-4 optimizer.discriminator.lr=2e-4": (
        "optimizer.lr=1e-3: does nothing, since optimizer.generator.lr and "
        "optimizer.discriminator.lr are given; leave it out"
    ),
    "model=subpixel model.discriminator.norm=spectral": (
        "model.discriminator.norm=spectral: unknown setting of "
        "forger.networks.subpixel.Discriminator. Allowed: hidden, width; it is a setting of "
        "model=dcgan or model=vanilla"
    ),
    "trainer.strategy=ddp_spawn": (
        "trainer.strategy=ddp_spawn: must be one of auto, single_device, ddp, "
        "ddp_find_unused_parameters_true, or a mapping with a _target_"
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
IN_A_PROCESS = [
    "model=dcgna",
    "+trainer.min_steps=9 trainer.max_steps=5",
    "+trainer.fast_dev_run=true",
]


@pytest.mark.parametrize("words", MISTAKES)
def test_what_is_said(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "visible_gpus", list)
    monkeypatch.setattr(hardware, "has_mps", lambda: False)
    assert find_mistakes(Command(ROOT / "configs", "train", tuple(words.split()))) == [
        MISTAKES[words]
    ]


@pytest.mark.parametrize("words", IN_A_PROCESS)
def test_what_is_seen(words: str, tmp_path: Path) -> None:
    done = _python(str(ROOT / "train.py"), *tuple(words.split()), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {MISTAKES[words]}\n"
    assert list(tmp_path.iterdir()) == []


def test_what_only_objects_know_comes_before_anything_is_written(tmp_path: Path) -> None:
    words = ["loss=r3gan", "loss.r1_gamma=1", "model=dcgan", "data=mnist_sample"]
    words += ["data.image_size=30", "paths.log_dir=logs"]
    done = _python(str(ROOT / "train.py"), *words, cwd=tmp_path)
    assert done.returncode == 2
    first, *problems = done.stderr.splitlines()
    assert first == "error: 2 problems:"
    assert "r3gan sets both by loss.gamma; for two weights write" in problems[0]
    assert "not 30x30; nearest: data.image_size=24|28|32" in problems[1]
    assert list(tmp_path.iterdir()) == []


def test_the_answer_takes_little_longer_than_importing_hydra(tmp_path: Path) -> None:
    """At most three times as long; with other work on the machine, one of three tries is enough.

    Both commands in turn, so that what slows one slows the other, and the mistakes in rotation.
    """
    ratios = []
    for attempt in range(3):
        taken: dict[str, list[float]] = {"refusal": [], "hydra": []}
        for words in list(MISTAKES)[attempt::4]:
            taken["hydra"].append(_seconds("-c", "import hydra", cwd=tmp_path))
            train = str(ROOT / "train.py")
            taken["refusal"].append(_seconds(train, *tuple(words.split()), cwd=tmp_path))
        ratios.append(statistics.median(taken["refusal"]) / statistics.median(taken["hydra"]))
        if ratios[-1] <= 3:
            return
    pytest.fail(f"a refusal takes {min(ratios):.2f} times as long as importing hydra")


def _seconds(*words: str, cwd: Path) -> float:
    began = time.perf_counter()
    _python(*words, cwd=cwd)
    return time.perf_counter() - began


def _python(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    hidden = {"HYDRA_FULL_ERROR", "LOCAL_RANK"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
