"""Whole trainings, in this process and from the command line."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from composing import alone, compose_config
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from forger.app.config.command import Command
from forger.app.run.resume import prepare
from forger.app.run.train import train
from forger.errors import ConfigError

ROOT = Path(__file__).parents[2]
TRANSLATORS = ("resnet_patchgan", "simgan", "unet_patchgan")  # from image to image
OF_TEXTS = ("stackgan",)  # with task=stages, in run/test_text_runs.py
MODELS = sorted(  # from noise
    path.stem
    for path in (ROOT / "configs/model").glob("*.yaml")
    if path.stem not in (*TRANSLATORS, *OF_TEXTS)
)
LOSSES = sorted(path.stem for path in (ROOT / "configs" / "loss").glob("*.yaml"))

NARROW = {  # of models that are wide, what makes them quick
    "stylegan2": [
        *(
            f"model.{side}.{size}"
            for side in ("generator", "discriminator")
            for size in ("channel_base=64", "channel_max=8", "mapping_layers=2")
        ),
        *("model.generator.latent_dim=16", "model.generator.style_dim=16"),
    ],
    "biggan": [f"model.{side}.width=4" for side in ("generator", "discriminator")],
    "r3gan": ["model.width=16", "model.group_size=8", "model.blocks=1"],
}

Compose = Callable[..., DictConfig]


def short(folder: Path, *overrides: str, steps: int = 2) -> list[str]:
    """Overrides of a training of few iterations that writes below `folder` alone.

    Without curves, which take as long as all the rest.
    """
    words = ["data=mnist_sample", "data.batch_size=8", "trainer=cpu", f"trainer.max_steps={steps}"]
    words += ["trainer.log_every_n_steps=1", "callbacks.samples.n=4", "callbacks.curves=null"]
    words += [f"paths.log_dir={folder / 'logs'}", f"paths.cache_dir={folder / 'cache'}"]
    return latest([*words, *overrides])


def latest(words: Iterable[str]) -> list[str]:
    """Leaves out words that a later one overrides: the command line refuses them."""
    return list({word.partition("=")[0]: word for word in words}.values())


def trained(folder: Path, *overrides: str, steps: int = 2) -> Path:
    """Trains a short run, unscored unless it is asked for, and returns its folder."""
    train(compose_config("train", *short(folder, "metrics=none", *overrides, steps=steps)))
    return run_folder(folder)


def run_folder(folder: Path) -> Path:
    """The only run folder there is."""
    (found,) = (path.parent for path in (folder / "logs").rglob("status.json"))
    return found


def status_of(run: Path) -> dict[str, Any]:
    """What is written there, whether or not it still holds."""
    content: dict[str, Any] = json.loads((run / "status.json").read_text())
    return content


def mark(run: Path, status: str) -> None:
    """Leaves the status that a killed process leaves."""
    content = status_of(run) | {"status": status, "pid": 2**22 - 3}
    (run / "status.json").write_text(json.dumps(content))


def resumed(run: Path | str, *overrides: str) -> DictConfig:
    """The config with which a command goes on with a run."""
    with alone():
        cfg = prepare(Command(ROOT / "configs", "train", (f"resume={run}", *overrides)))[1]
    del cfg["hydra"]
    return cfg


def mistakes(run: Path | str, *overrides: str) -> list[str]:
    """What is wrong with a command that goes on with a run."""
    try:
        resumed(run, *overrides)
    except ConfigError as error:
        return [line.strip() for line in str(error).splitlines() if " problems:" not in line]
    return []


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def command(
    *arguments: str,
    cwd: Path = ROOT,
    environment: dict[str, str] | None = None,
    script: Path = ROOT / "train.py",
    timeout: float = 300.0,
) -> subprocess.CompletedProcess[str]:
    """Runs train.py as a user would."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("PL_", "LOCAL_RANK"))}
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=cwd,
        env=own | {"WANDB_MODE": "disabled"} | (environment or {}),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@contextmanager
def interruptible(*words: str, cwd: Path = ROOT) -> Iterator[subprocess.Popen[str]]:
    """Starts a script that heeds Ctrl-C, and ends it at the latest with the test.

    A shell that runs the tests in the background has them, and all they start, ignore Ctrl-C.
    """
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def captioned_images(folder: Path) -> Path:
    """Forty pictures in two colours, each with two captions that name its own."""
    folder.mkdir()
    rows = []
    for number in range(40):
        name, colour = f"{number:04d}.png", ("red", "blue")[number % 2]
        Image.new("RGB", (8, 8), colour).save(folder / name)
        texts = [f"a {colour} square", f"{colour}, as number {number % 4}"]
        rows.append(json.dumps({"file_name": name, "text": texts}))
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    return folder


def colour_folder(folder: Path, classes: Iterable[str] = ("cat", "dog"), side: int = 40) -> Path:
    """Writes a folder of small colour images in two classes."""
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for index in range(24):
            pixels = rng.integers(0, 256, (side, side + index % 3, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


def choices_of(model: str, loss: str, data: str, folder: Path) -> list[str]:
    """What is typed; networks are narrow."""
    words = [f"model={model}", f"loss={loss}", f"data={data}", *NARROW.get(model, [])]
    for name, network in OmegaConf.load(ROOT / f"configs/model/{model}.yaml").items():
        if model not in NARROW and name in ("generator", "discriminator") and "width" in network:
            words.append(f"model.{name}.width=16")
    if data == "image_folder":
        images = colour_folder(folder / "images")
        words += [f"data.root={images}", "data.image_size=32", "data.batch_size=4"]
    return words
