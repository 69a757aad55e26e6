"""A run cut off at any iteration goes on to the same bits, whatever is switched on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import SHAPE, conditional, make_dcgan, make_gan
from lightning import LightningDataModule
from lightning.pytorch.plugins import MixedPrecision
from resuming import assert_resumes, full_gan, labelled, last, squares, train
from same import differences
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from forger import losses
from forger.conditions import Labels
from forger.data import GroupedDataModule
from forger.gan import GAN
from forger.networks import dcgan, mlp, stylegan2

SETTINGS: dict[str, dict[str, Any]] = {
    "Wasserstein": {"gradient_penalty": 10.0},
    "NonSaturating": {"label_smoothing": 0.1, "r1_gamma": 1.0, "penalty_interval": 2},
}
LOSSES = [
    name
    for name, kind in vars(losses).items()
    if isinstance(kind, type)
    and issubclass(kind, losses.AdversarialLoss)
    and kind is not losses.AdversarialLoss
]


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_with_everything_on(name: str, tmp_path: Path) -> None:
    """400 images in batches of 8 and 6 or 8 of those an iteration: an epoch ends within."""
    loss = getattr(losses, name)(n_critic=3, **SETTINGS.get(name, {}))
    assert_resumes(tmp_path, lambda: full_gan(loss), squares, kills=(3, 8), precision="bf16-mixed")


def test_anywhere_in_an_epoch(tmp_path: Path) -> None:
    """Six iterations an epoch: in its middle, at its end, at the next one's begin."""
    make = partial(full_gan, losses.Hinge(n_critic=4))
    assert_resumes(tmp_path, make, squares, kills=(1, 5, 6, 7, 10))


@pytest.mark.parametrize("how", ["projection", "auxiliary", "concat"])
@pytest.mark.parametrize(
    ("model", "loss"),
    [(mlp, losses.Wasserstein(gradient_penalty=10.0, n_critic=3)), (dcgan, losses.R3GAN())],
)
def test_each_condition_with_everything_on(
    model: Any, loss: losses.AdversarialLoss, how: str, tmp_path: Path
) -> None:
    """Labels of real images and of fakes are those of the run that was not cut off."""

    def make(**arguments: Any) -> GAN:
        return make_gan(model, **conditional(how, model, norm="layer"), **arguments)

    make_full = partial(full_gan, loss, make)
    assert_resumes(tmp_path, make_full, labelled, kills=(3, 8), precision="bf16-mixed")
    assert last(tmp_path / "cut")["state_dict"]["task.condition.frequencies"].min() > 1


def test_styles_and_the_mean_of_their_path_lengths(tmp_path: Path) -> None:
    def make() -> GAN:
        facts: dict[str, Any] = {"channel_base": 32, "channel_max": 4, "num_classes": 3}
        torch.manual_seed(0)
        networks = {
            "generator": stylegan2.Generator(SHAPE, 5, 4, mapping_layers=1, **facts),
            "discriminator": stylegan2.Discriminator(SHAPE, **facts),
            "condition": Labels(("left", "middle", "right")),
        }
        loss = losses.NonSaturating(path_length=2.0, path_length_interval=3, r1_gamma=1.0)
        return full_gan(loss, partial(make_gan, **networks))

    assert_resumes(tmp_path, make, labelled, kills=(3, 4, 8), precision="bf16-mixed")
    assert last(tmp_path / "cut")["state_dict"]["task.path_length.mean"] > 0


@pytest.mark.parametrize("networks", [dict, partial(conditional, "auxiliary")])
def test_with_shared_fakes(networks: Callable[[], dict[str, Any]], tmp_path: Path) -> None:
    def make() -> GAN:
        return make_gan(share_fakes=True, **networks())

    assert_resumes(tmp_path, make, labelled, kills=(3, 8))


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
@pytest.mark.parametrize("loss", [losses.NonSaturating(n_critic=3), losses.Dragan()])
def test_convolutions_batch_norm_and_precisions(
    loss: losses.AdversarialLoss, precision: str, tmp_path: Path
) -> None:
    make = partial(full_gan, loss, make_dcgan)
    assert_resumes(tmp_path, make, squares, kills=(2, 9), precision=precision)


@pytest.mark.parametrize("networks", [dict, partial(conditional, "projection")])
def test_the_scale_of_16_bit_gradients(
    networks: Callable[[], dict[str, Any]], tmp_path: Path
) -> None:
    def plugins() -> list[Any]:
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=4)
        return [MixedPrecision("16-mixed", "cpu", scaler)]

    def make() -> GAN:
        # Lightning's scaler cannot clip fused optimizers
        return make_gan(loss=losses.Hinge(), **networks())

    assert_resumes(tmp_path, make, labelled, kills=(3, 9), plugins=plugins)
    assert last(tmp_path / "cut")["MixedPrecision"]["scale"] > 1024


@pytest.mark.parametrize(
    "limits",
    [
        {"max_steps": -1, "max_epochs": 2},
        {"max_steps": 9, "max_epochs": 5},
        {"limit_train_batches": 3},
        {"overfit_batches": 2},
    ],
)
def test_whatever_limits_the_run(limits: dict[str, Any], tmp_path: Path) -> None:
    make = partial(full_gan, losses.Hinge(n_critic=4))
    assert_resumes(tmp_path, make, squares, kills=(4, 6, 7), **limits)


def test_a_run_that_goes_further_equals_one_that_was_longer_from_the_start(tmp_path: Path) -> None:
    def train_until(steps: int, folder: Path, path: Path | None = None) -> None:
        gan = make_gan(loss=losses.Hinge(n_critic=4))
        train(folder, gan, squares(), max_steps=steps, ckpt_path=path)

    train_until(17, tmp_path / "long")
    path = None
    for steps in (5, 6, 9, 12, 17):  # in an epoch, and at its end
        train_until(steps, tmp_path / "short", path)
        path = tmp_path / "short" / "checkpoints" / "last.ckpt"
    assert not differences(last(tmp_path / "long"), last(tmp_path / "short"))


class Noisy(Dataset[Tensor]):
    """Images of one's own, with augmentation from the global random state."""

    def __len__(self) -> int:
        return 50

    def __getitem__(self, place: int) -> Tensor:
        image = torch.full(SHAPE, place / 25 - 1)
        return (image + 0.1 * torch.randn(SHAPE)).clamp(-1, 1)


class Foreign(LightningDataModule):
    """A data module that knows nothing of forger."""

    def __init__(self, workers: int = 0, generator: bool = False) -> None:
        super().__init__()
        self.workers = workers
        self.random = torch.Generator().manual_seed(1) if generator else None

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(
            Noisy(),
            batch_size=5,
            shuffle=True,
            num_workers=self.workers,
            generator=self.random,
            drop_last=True,
        )


@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("how", [{}, {"generator": True}, {"workers": 2}])
def test_data_and_networks_that_draw_from_the_global_random_state(
    how: dict[str, Any], size: int, tmp_path: Path
) -> None:
    def make() -> GAN:
        gan = make_gan(mlp, loss=losses.Hinge(n_critic=size))
        gan.discriminator.layers.insert(2, nn.Dropout(0.3))  # draws from the global state too
        torch.manual_seed(12)
        return gan

    def data() -> GroupedDataModule:
        return GroupedDataModule(Foreign(**how), size)

    assert_resumes(tmp_path, make, data, kills=(2, 3, 7))
