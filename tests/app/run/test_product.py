"""Every model, loss, augmentation and condition together: trained, or refused with a reason."""

from __future__ import annotations

import math
import re
from itertools import product
from pathlib import Path

import pytest
from composing import compose_config
from helpers import make_trainer
from lightning import LightningDataModule
from omegaconf import DictConfig
from training import (
    LOSSES,
    MODELS,
    OF_TEXTS,
    TRANSLATORS,
    captioned_images,
    choices_of,
    colour_folder,
    short,
)

from forger.app.config.check import find_problems
from forger.app.run.build import (
    build_data,
    build_gan,
    classes_of,
    image_shape_of,
    source_shape_of,
    texts_of,
)
from forger.errors import UserError

pytestmark = pytest.mark.slow

AUGMENTATIONS = ("none", "diffaugment", "ada")
CONDITIONS = {
    "none": ["condition=none"],
    **{
        how: ["condition=label", f"condition.discriminator={how}"]
        for how in ("projection", "concat", "auxiliary")
    },
    "text": ["condition=text", "text=learned_small"],
}
TASKS = {
    **{"unet_patchgan": "paired", "resnet_patchgan": "cycle", "simgan": "refine"},
    "stackgan": "stages",
}
RELATIVISTIC = ("r3gan", "relativistic_average", "relativistic_pairing")
PENALISED = ("dragan", "r3gan", "wgan_gp")


def words_of(model: str, condition: str, folder: Path) -> list[str]:
    """What is typed for a model and a condition, but for the loss and the augmentation."""
    task = TASKS.get(model, "from_noise")
    words = [*choices_of(model, LOSSES[0], "mnist_sample", folder), f"task={task}"]
    if model == "stackgan":
        words.append("model.stages=2")
    if model in TRANSLATORS:
        images = colour_folder(folder / "sides", classes="AB")
        kind = "paired" if task == "paired" else "unpaired"
        words += [f"data={kind}_folder", f"data.root={images}", "data.image_size=32"]
        words += ["task.lambda_class=0"] * (task == "refine")
    elif condition == "text":
        images = captioned_images(folder / "captioned")
        words += ["data=captioned_folder", f"data.root={images}", "data.image_size=16"]
    return short(folder, *words, *CONDITIONS[condition], "metrics=none", "data.batch_size=4")


def reasons(model: str, condition: str, loss: str, augment: str) -> dict[str, bool]:
    """What may be told of a training that is refused, and whether it applies."""
    task = TASKS.get(model, "from_noise")
    with_labels = condition not in ("none", "text")
    has_head = model not in ("dfgan", *OF_TEXTS)
    takes_texts = model in ("dfgan", "subpixel", *OF_TEXTS)
    return {
        "augment: .* takes none": augment != "none" and task in ("stages", "paired", "cycle"),
        r"augment\.p=null: follows .* no logit decides that": augment == "ada"
        and loss in (*RELATIVISTIC, "wasserstein", "wgan_gp"),
        "takes no num_classes and no head; write condition.discriminator=concat": not has_head
        and condition in ("projection", "auxiliary"),
        "takes no text_dim": condition == "text" and not takes_texts,
        "StackGAN makes images of texts; write condition=text": model == "stackgan"
        and condition != "text",
        "has no captions; write": condition == "text" and model in TRANSLATORS,
        "needs data of two classes or more": with_labels and model in TRANSLATORS,
        "adds no penalties and compares with no real images": task == "cycle"
        and loss in (*RELATIVISTIC, *PENALISED),
        "Stages compares with no real images": task == "stages" and loss in RELATIVISTIC,
    }


def why_not(cfg: DictConfig, data: LightningDataModule, folder: Path) -> str:
    """Why the check or what is built refuses a training; else trains two iterations."""
    if problems := find_problems(cfg):
        return "\n".join(map(str, problems))
    try:
        classes = classes_of(cfg, data)
        shape = image_shape_of(data, classes)[0]
        gan = build_gan(cfg, shape, 0, classes, source_shape_of(data), texts_of(cfg, data))
    except UserError as error:
        return str(error)
    trainer = make_trainer(folder, max_steps=2)
    trainer.fit(gan, datamodule=data)
    rows = trainer.callback_metrics
    assert {"train/loss_g", "train/loss_d"} <= rows.keys()
    assert all(math.isfinite(value) for value in rows.values())
    return ""


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("model", [*MODELS, *OF_TEXTS, *TRANSLATORS])
def test_it_trains_or_is_refused_with_a_reason(model: str, condition: str, tmp_path: Path) -> None:
    cfg = compose_config("train", *words_of(model, condition, tmp_path))
    data = build_data(cfg, 0)
    for loss, augment in product(LOSSES, AUGMENTATIONS):
        for group, choice in (("loss", loss), ("augment", augment)):
            cfg[group] = compose_config("train", f"{group}={choice}")[group]
        told = why_not(cfg, data, tmp_path)
        expected = [why for why, holds in reasons(model, condition, loss, augment).items() if holds]
        cell = f"{loss}, {augment}: {told or 'trains'}"
        assert bool(told) == bool(expected), cell
        assert not told or any(re.search(why, told) for why in expected), cell
