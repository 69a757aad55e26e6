"""Images from noise and a class: terms by hand, labels of fakes, shapes of logits, refusals."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Squares, make_trainer
from hydra.utils import instantiate
from omegaconf import OmegaConf
from test_gan import Spy
from torch import Tensor, nn
from torch.nn.functional import log_softmax, relu
from torch.nn.utils import parametrize

from forger.conditions import Labels
from forger.errors import ConfigError
from forger.gan import GAN
from forger.losses import AdversarialLoss, Dragan, Hinge, Wasserstein
from forger.networks import mlp, resnet, sndcgan
from forger.networks.conditional import LabelBesideNoise, LabelPlanes
from forger.noise import Draws
from forger.schedules import Linear
from forger.tasks import FromNoise
from forger.updates import Updates

SHAPE = (1, 4, 4)
CLASSES = ("cat", "dog", "ship")
HEADS = ("projection", "concat", "auxiliary")
LOSSES = sorted((Path(__file__).parents[2] / "configs" / "loss").glob("*.yaml"))
ROWS = 6


class Labelled(Squares):
    """Squares of three classes: 32, 16 and none of the training images, and 16 of a fourth."""

    classes = ("a", "b", "c", "d")

    def read(self, split: str) -> dict[str, Tensor]:
        labels = torch.tensor([0, 1, 3, 0]).repeat(self.count // 4)
        return super().read(split) | {"label": labels}


def make_task(head: str, loss: AdversarialLoss | None = None, **settings: Any) -> FromNoise:
    torch.manual_seed(0)
    condition = Labels(CLASSES, discriminator=head, **settings)  # type: ignore[arg-type]
    facts: dict[str, Any] = {"num_classes": 3, "head": head}
    discriminator: nn.Module
    if head == "concat":
        wide = mlp.Discriminator((4, 4, 4), hidden=(8,), norm="none")
        discriminator = LabelPlanes(wide, 3)
    else:
        discriminator = mlp.Discriminator(SHAPE, hidden=(8,), norm="none", **facts)
    generator = mlp.Generator(SHAPE, latent_dim=5, hidden=(8,), num_classes=3)
    return FromNoise(generator, discriminator, loss or Hinge(), condition)


def batches() -> tuple[dict[str, Tensor], dict[str, Tensor], Draws]:
    """Real images, all cats but one, fakes, all ships, and random numbers."""
    random = torch.Generator().manual_seed(1)
    real, fake = torch.rand(2, ROWS, *SHAPE, generator=random) * 2 - 1
    draws = Draws(seed=4)
    draws.start(1)
    label = torch.tensor([0, 0, 0, 1, 0, 0])
    return {"image": real, "label": label}, {"image": fake, "label": torch.full((ROWS,), 2)}, draws


def logits_of(task: FromNoise, images: Tensor, label: Tensor) -> Tensor:
    found = task.discriminator(images, label)
    logits: Tensor = found[0] if isinstance(found, tuple) else found
    return logits


def classes_of(task: FromNoise, batch: dict[str, Tensor]) -> Tensor:
    classes: Tensor = task.discriminator(batch["image"], batch["label"])[1]
    return classes


def slopes(task: FromNoise, images: Tensor, label: Tensor) -> Tensor:
    """The length of D's gradient at each image, one after the other."""
    found = []
    for image, own in zip(images, label, strict=True):
        at = image[None].clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(logits_of(task, at, own[None]).sum(), at)
        found.append(gradient.norm())
    return torch.stack(found)


def r1(task: FromNoise, real: Any, fake: Any, draws: Draws) -> Tensor:
    return slopes(task, real["image"], real["label"]).square().mean() * 3 / 2


def r2(task: FromNoise, real: Any, fake: Any, draws: Draws) -> Tensor:
    return slopes(task, fake["image"], fake["label"]).square().mean() * 3 / 2


def between(task: FromNoise, real: Any, fake: Any, draws: Draws) -> Tensor:
    eps = draws.uniform(ROWS, 1, 1, 1)
    at = eps * real["image"] + (1 - eps) * fake["image"]
    return 10 * (slopes(task, at, real["label"]) - 1).square().mean()


def around(task: FromNoise, real: Any, fake: Any, draws: Draws) -> Tensor:
    alpha, u = draws.uniform(ROWS, 1, 1, 1), draws.uniform(ROWS, *SHAPE)
    at = real["image"] + alpha * real["image"].std() / 2 * u
    return 10 * (slopes(task, at, real["label"]) - 1).square().mean()


PENALTIES: dict[str, tuple[AdversarialLoss, Callable[..., Tensor]]] = {
    "r1": (Hinge(r1_gamma=3.0), r1),
    "r2": (Hinge(r2_gamma=3.0), r2),
    "interpolates": (Wasserstein(gradient_penalty=10.0), between),
    "around_real": (Dragan(gradient_penalty=10.0), around),
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", PENALTIES)
def test_a_penalty_judges_by_the_labels_of_its_images(name: str, head: str) -> None:
    loss, by_hand = PENALTIES[name]
    task, (real, fake, draws) = make_task(head, loss), batches()
    (key,) = loss.penalties
    found = task.discriminator_terms(real, fake, draws, update=1).added[f"penalty_{key}"]
    draws.start(1)
    expected = by_hand(task, real, fake, draws)
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    assert expected > 1e-4


@pytest.mark.parametrize("head", HEADS)
def test_adversarial_terms_by_hand(head: str) -> None:
    task, (real, fake, draws) = make_task(head), batches()
    r, f = (logits_of(task, one["image"], one["label"]) for one in (real, fake))
    terms = task.discriminator_terms(real, fake, draws, update=1)
    expected = relu(1 - r).mean() + relu(1 + f).mean()
    assert terms.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    of_generator = task.generator_terms(real, fake, draws)
    assert of_generator.loss.item() == pytest.approx(-f.mean().item(), rel=1e-5)
    others = terms.added.keys() | of_generator.added.keys()
    assert others == ({"class_loss_d", "class_loss_g"} if head == "auxiliary" else set())
    assert terms.total.item() == pytest.approx((terms.loss + sum(terms.added.values())).item())


@pytest.mark.parametrize(
    ("settings", "weights"),
    [({}, (1.0, 0.1)), ({"discriminator_weight": 2.0, "generator_weight": 0.0}, (2.0, 0.0))],
)
def test_the_class_head_learns_from_real_images_and_teaches_the_generator(
    settings: dict[str, float], weights: tuple[float, float]
) -> None:
    task, (real, fake, draws) = make_task("auxiliary", **settings), batches()
    expected = [
        weight * -log_softmax(classes_of(task, one), 1)[range(ROWS), one["label"]].mean().item()
        for weight, one in zip(weights, (real, fake), strict=True)
    ]
    of_discriminator = task.discriminator_terms(real, fake, draws, update=1)
    of_generator = task.generator_terms(real, fake, draws)
    found = of_discriminator.added["class_loss_d"], of_generator.added["class_loss_g"]
    assert [x.item() for x in found] == pytest.approx(expected, rel=1e-5)
    # nothing of it depends on the fakes
    others = {"image": -fake["image"], "label": real["label"]}
    again = task.discriminator_terms(real, others, draws, update=1)
    assert again.added["class_loss_d"].item() == pytest.approx(expected[0], rel=1e-5)


def test_the_class_accuracy_is_the_share_of_real_images_whose_class_is_seen() -> None:
    condition = Labels(CLASSES, discriminator="auxiliary")
    seen = torch.tensor([[3.0, 1, 2], [0, 1, 2], [0, 5, -1], [9, 8, 7]])
    _, logged = condition.discriminator_terms(seen, {"label": torch.tensor([0, 2, 0, 1])})
    assert logged["class_accuracy"].item() == 0.5


def drawn(labels: Any, rows: int = 4000) -> Tensor:
    condition = Labels(Labelled.classes, labels=labels)
    condition.setup(Labelled(batch_size=8))
    draws = Draws(seed=2)
    draws.start(1)
    return condition.draw(rows, draws)["label"]


@pytest.mark.parametrize(
    ("labels", "chances"),
    [("data", [1 / 2, 1 / 4, 0, 1 / 4]), ("uniform", [1 / 3, 1 / 3, 0, 1 / 3])],
)
def test_labels_of_fakes_follow_the_data_or_are_uniform(labels: str, chances: list[float]) -> None:
    """No class without images is ever drawn; chi-square of two degrees is below 13.8 in 99.9 %."""
    counts = torch.bincount(drawn(labels), minlength=4)
    expected = torch.tensor(chances) * 4000
    assert counts[2] == 0
    present = expected > 0
    assert ((counts - expected)[present].square() / expected[present]).sum() < 13.8


def test_two_processes_draw_the_labels_of_one() -> None:
    condition = Labels(Labelled.classes)
    shares = [Draws(seed=2, rank=rank, world_size=2) for rank in range(2)]
    for draws in shares:
        draws.start(5)
    one = Draws(seed=2)
    one.start(5)
    whole = condition.draw(12, one)["label"]
    assert len(whole.unique()) > 1
    for rank, draws in enumerate(shares):
        assert torch.equal(condition.draw(6, draws)["label"], whole[rank::2])


def test_a_weight_without_a_class_head_is_refused() -> None:
    told = r"condition\.generator_weight=0\.2: is for condition\.discriminator=auxiliary; leave it"
    with pytest.raises(ConfigError, match=told):
        Labels(CLASSES, generator_weight=0.2)


class Patches(nn.Module):
    """Logits of 2 x 2 patches of 16 x 16 images."""

    def __init__(self, keep: bool) -> None:
        super().__init__()
        self.keep = keep
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 8, 8), nn.Tanh(), nn.Conv2d(4, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.layers(images)
        return maps if self.keep else maps.squeeze(1)


def patch_task(loss: AdversarialLoss, keep: bool) -> FromNoise:
    torch.manual_seed(0)
    generator = mlp.Generator((1, 16, 16), latent_dim=5, hidden=(8,), norm="none")
    return FromNoise(generator, Patches(keep), loss)


@pytest.mark.parametrize("keep", [True, False], ids=["B1HW", "BHW"])
@pytest.mark.parametrize("path", LOSSES, ids=lambda path: path.stem)
def test_patches_train_with_every_loss(path: Path, keep: bool, tmp_path: Path) -> None:
    """A loss takes means over all logits, as if each patch were an image."""
    loss: AdversarialLoss = instantiate(OmegaConf.load(path))
    task = patch_task(loss, keep)
    images = torch.rand(2, ROWS, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    real, fake = ({"image": one} for one in images)
    r, f = (task.discriminator(one["image"]).flatten() for one in (real, fake))
    assert len(r) == 4 * ROWS
    draws = Draws(seed=0)
    draws.start(1)
    terms = task.discriminator_terms(real, fake, draws, update=1)
    assert terms.loss.item() == pytest.approx(loss.discriminator(r, f).item(), rel=1e-5)
    found = task.generator_terms(real, fake, draws).loss
    expected = loss.generator(f, r if loss.generator_sees_real else None)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    gan = GAN(task)
    trainer = make_trainer(tmp_path, max_steps=2)
    trainer.fit(gan, datamodule=Squares(batch_size=8, seed=0))
    moved = [trainer.callback_metrics[f"train/{name}"] for name in ("loss_g", "loss_d")]
    assert torch.isfinite(torch.stack(moved)).all()


class Ten(nn.Linear):
    """Gives ten numbers for an image, and says in `many` in which shape."""

    def __init__(self, many: bool) -> None:
        super().__init__(256, 10)
        self.many = many

    def forward(self, images: Tensor) -> Any:
        found = super().forward(images.flatten(1))
        return found if self.many else [found]


@pytest.mark.parametrize(
    ("shape", "discriminator", "told"),
    [
        (
            (1, 8, 8),
            Patches(True),
            r"model\.generator: makes images \(1, 8, 8\), the data holds \(1, 1",
        ),
        (
            (1, 16, 16),
            Ten(True),
            r"model\.discriminator: gives \(4, 10\) for 4 images, must give one",
        ),
        ((1, 16, 16), Ten(False), r"model\.discriminator: must return a tensor, and returns list"),
    ],
)
def test_networks_that_do_not_fit_are_refused(
    shape: tuple[int, int, int], discriminator: nn.Module, told: str
) -> None:
    task = FromNoise(mlp.Generator(shape, 5, hidden=(8,)), discriminator, Hinge())
    draws, real = Draws(seed=0), {"image": torch.zeros(4, 1, 16, 16)}
    draws.start(1)
    with pytest.raises(ConfigError, match=told):
        task.discriminator_terms(real, task.fakes(real, draws), draws, update=1)


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (lambda x: x.mean((1, 2, 3)), r"those of classes \(4, 3\), and returns float32 \(4,\)"),
        (
            lambda x: (x.mean((1, 2, 3)), x),
            r"\(4, 3\), and returns a tuple of float32 \(4,\), float32",
        ),
    ],
)
def test_an_auxiliary_discriminator_without_a_class_head_is_refused(
    returned: Callable[[Tensor], Any], told: str
) -> None:
    """Its classes would be told to no one, and no term would say so."""
    task = make_task("auxiliary")
    batch = {"image": torch.zeros(4, *SHAPE), "label": torch.zeros(4, dtype=torch.int64)}
    with pytest.raises(
        ConfigError, match=f"discriminator=auxiliary: the discriminator must.*{told}"
    ):
        task.judge(lambda images, label: returned(images), batch)  # type: ignore[arg-type]


def conditional(head: str, loss: AdversarialLoss) -> FromNoise:
    """A game for `Labelled`; with planes in D, the class lies beside G's noise."""
    torch.manual_seed(0)
    condition = Labels(Labelled.classes, discriminator=head)  # type: ignore[arg-type]
    size: dict[str, Any] = {"hidden": (8,), "norm": "none"}
    generator: nn.Module
    discriminator: nn.Module
    if head == "concat":
        generator = LabelBesideNoise(mlp.Generator((1, 16, 16), 5 + 2, **size), 4, 2)
        discriminator = LabelPlanes(mlp.Discriminator((5, 16, 16), **size), 4)
    else:
        generator = mlp.Generator((1, 16, 16), 5, hidden=(8,), num_classes=4)
        discriminator = mlp.Discriminator((1, 16, 16), num_classes=4, head=head, **size)  # type: ignore[arg-type]
    return FromNoise(generator, discriminator, loss, condition)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("loss", [Hinge(), Wasserstein(gradient_penalty=10.0, n_critic=2)])
def test_each_update_of_a_conditional_run_moves_one_side(
    head: str, loss: AdversarialLoss, tmp_path: Path
) -> None:
    gan = GAN(conditional(head, loss))
    gan.__class__ = Spy
    trainer = make_trainer(tmp_path)
    trainer.fit(gan, datamodule=Labelled(batch_size=8, seed=0))
    assert list(gan.updates) == [*["discriminator"] * loss.n_critic, "generator"] * 3  # type: ignore[arg-type]
    logged = {name for name in trainer.callback_metrics if "class_" in name}
    names = {"train/class_loss_d", "train/class_loss_g", "train/class_accuracy"}
    assert logged == (names if head == "auxiliary" else set())


class Wide(Labelled):
    native_shape = (1, 32, 32)

    def read(self, split: str) -> dict[str, Tensor]:
        found = super().read(split)
        return found | {"image": found["image"].repeat(1, 1, 2, 2)}


@pytest.mark.parametrize(
    ("model", "head"),
    [(resnet, "projection"), (sndcgan, "auxiliary")],
    ids=["sngan", "sndcgan"],
)
def test_after_training_the_largest_singular_value_of_each_layer_is_1(
    model: Any, head: str, tmp_path: Path
) -> None:
    """As far as one power iteration a forward pass can tell: within 2 %, once the rate is low."""
    torch.manual_seed(0)
    shape, classes = Wide.native_shape, {"num_classes": 4}
    discriminator = model.Discriminator(shape, width=4, head=head, **classes)
    generator = model.Generator(shape, latent_dim=8, width=4, **classes)
    condition = Labels(Wide.classes, discriminator=head)  # type: ignore[arg-type]
    adam = Updates(
        optimizer=partial(torch.optim.Adam, lr=2e-4, betas=(0.0, 0.9)), schedule=Linear()
    )
    task = FromNoise(generator, discriminator, Hinge(), condition)
    gan = GAN(task, generator_updates=adam, discriminator_updates=adam)
    begun = {name: p.detach().clone() for name, p in discriminator.named_parameters()}
    make_trainer(tmp_path, max_steps=60).fit(gan, datamodule=Wide(batch_size=8, seed=0))
    discriminator.eval()
    layers = [m for m in discriminator.modules() if parametrize.is_parametrized(m)]
    own = [
        m for m in discriminator.modules() if isinstance(m, (nn.Conv2d, nn.Linear, nn.Embedding))
    ]
    assert len(layers) == len(own) > 5
    for layer in layers:
        weight = layer.weight.detach().flatten(1)  # type: ignore[union-attr, operator]
        assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1, abs=0.02)
    assert all(not torch.equal(begun[name], p) for name, p in discriminator.named_parameters())
