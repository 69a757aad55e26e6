"""What only built objects can tell is refused before anything is trained or written."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import SHAPE, Squares, fit, make_dcgan, make_gan, make_trainer
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from training import Compose, latest, short

from forger import losses as L
from forger.app.config.check import check
from forger.app.run.checks import check_networks
from forger.app.run.train import train
from forger.callbacks import SampleGrid
from forger.errors import ConfigError, DataError
from forger.gan import GAN
from forger.metrics.judging import logits_of
from forger.networks import mlp
from forger.sampling.sampler import Sampler


def test_fitting_networks_are_left_as_they_were() -> None:
    gan = make_dcgan()
    gan.discriminator.layers[0].eval()
    modes = [module.training for module in gan.modules()]
    bits = {name: value.clone() for name, value in gan.state_dict().items()}
    state = torch.get_rng_state()
    check_networks(gan, SHAPE)
    assert [module.training for module in gan.modules()] == modes
    assert all(torch.equal(value, bits[name]) for name, value in gan.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


REPARAMETRISED = {
    **{name: getattr(parametrizations, name) for name in ("spectral_norm", "weight_norm")},
    **{f"older {name}": getattr(nn.utils, name) for name in ("spectral_norm", "weight_norm")},
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
}


class OwnGenerator(nn.Module):
    """Keeps what it made last, as some do for visualisation."""

    latent_dim = 6

    def __init__(self, reparametrise: Any = lambda layer: layer) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            reparametrise(nn.Linear(6, 8)), nn.ReLU(), reparametrise(nn.Linear(8, 256)), nn.Tanh()
        )
        self.made: list[Any] = []

    def forward(self, noise: Tensor) -> Tensor:
        images: Tensor = self.layers(noise).view(-1, *SHAPE)
        self.made = [{"last": (images,)}]
        return images


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
@pytest.mark.parametrize("reparametrise", REPARAMETRISED.values(), ids=REPARAMETRISED)
def test_networks_with_hooks_train_sample_and_load(reparametrise: Any, tmp_path: Path) -> None:
    def make() -> GAN:
        torch.manual_seed(0)
        judge = nn.Sequential(nn.Flatten(), reparametrise(nn.Linear(256, 4)), nn.ReLU())
        judge.append(reparametrise(nn.Linear(4, 1)))
        generator = OwnGenerator(reparametrise)
        return make_gan(generator=generator, discriminator=judge, loss=L.Hinge(r1_gamma=0.1))

    gan = make()
    check_networks(gan, SHAPE)
    trainer = fit(gan, tmp_path, callbacks=[SampleGrid(n=4, every_n_steps=1)])
    found = logits_of(gan.task, {"image": torch.zeros(3, *SHAPE, dtype=torch.uint8)})
    fit(gan, tmp_path)  # and on, after it was scored
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = make()
    make_trainer(tmp_path, max_steps=5).fit(
        again, datamodule=Squares(batch_size=8, seed=0), ckpt_path=tmp_path / "last.ckpt"
    )
    again.load_state_dict(torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"])
    assert found.isfinite().all()
    for ours, theirs in ((gan.generator, again.generator), (gan.ema_generator.module,) * 2):
        images = Sampler(ours, "normal").sample(3)
        torch.testing.assert_close(Sampler(theirs, "normal").sample(3), images)


class LateBuffer(OwnGenerator):
    def forward(self, noise: Tensor) -> Tensor:
        self.register_buffer("late", torch.zeros(3))
        return super().forward(noise)


class Judge(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(256, 8), nn.Linear(8, 1)


class Spoilt(Judge):
    """Changes in place what its backward pass needs."""

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.first(images.flatten(1)).exp()
        logits: Tensor = self.last(hidden * 2)
        hidden += 1
        return logits


class Both(Judge):
    def forward(self, images: Tensor) -> Any:
        return images.mean(), images


class Mistaken(Judge):
    def forward(self, images: Tensor) -> Any:
        return self.frist(images)


class OnlyOnce(Judge):
    """Carries its graph from one forward pass into the next."""

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.first(images.flatten(1)).sigmoid()
        self.mean = hidden.mean(0) + getattr(self, "mean", 0)
        logits: Tensor = self.last(hidden + self.mean)
        return logits


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        ({"generator": mlp.Generator((1, 8, 8))}, r"images \(1, 8, 8\), the data holds"),
        ({"discriminator": mlp.Discriminator((1, 8, 8))}, r"discriminator: fails on an input"),
        ({"discriminator": nn.Flatten()}, r"\(2, 256\) for 2 images, must give one logit each"),
        ({"generator": nn.Linear(3, 4)}, "needs an attribute latent_dim"),
        ({"generator": LateBuffer()}, "generator: a forward pass adds late"),
        ({"discriminator": Spoilt()}, "discriminator: cannot be trained by .*RuntimeError: one"),
        ({"discriminator": OnlyOnce()}, "through the graph a second time"),
        ({"discriminator": Both()}, "discriminator: must return a tensor, and returns tuple"),
        ({"discriminator": Mistaken()}, r"test_checks.py, line \d+: .*no attribute 'frist'"),
        (
            {"discriminator": nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(1))},
            "discriminator: Sequential has no weights to train",
        ),
        (
            {"discriminator": nn.Sequential(nn.Flatten(), nn.LazyLinear(1))},
            r"model\.discriminator: has lazy layers",
        ),
    ],
)
def test_what_would_fail_in_training_is_told_before(
    networks: dict[str, nn.Module], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_networks(make_gan(**networks), SHAPE)


def test_batchnorm_of_a_single_image_is_refused() -> None:
    judge = nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    for gan in (make_gan(), make_gan(discriminator=judge)):
        check_networks(gan, SHAPE, batch=8)
        with pytest.raises(ConfigError, match=r"more images than data\.batch_size gives"):
            check_networks(gan, SHAPE, batch=1)
    check_networks(make_dcgan(), SHAPE, batch=1)  # its maps are large enough


def test_a_discriminator_that_cannot_be_copied_is_none_the_worse(tmp_path: Path) -> None:
    gan = make_gan()
    gan.discriminator.lock = threading.Lock()
    check_networks(gan, SHAPE)
    fit(gan, tmp_path, max_steps=1)
    assert gan.iteration == 1


LINEAR = "schedule=linear trainer.max_steps=-1 trainer.max_time=00:01:00:00"
NESTEROV = "optimizer=sgd +optimizer.generator.nesterov=true optimizer.momentum=0"


@pytest.mark.parametrize(
    ("overrides", "messages"),
    [
        (
            "loss=wgan_gp model=dcgan model.discriminator.norm=batch",
            ["model.discriminator.norm=batch: this loss penalises gradients per sample"],
        ),
        ("model.discriminator.norm=instance", ["an MLP has no pixels to take statistics over"]),
        (
            "loss=r3gan loss.r1_gamma=1 model=dcgan data.image_size=30",
            [
                "2 problems:",
                "loss.r1_gamma=1, loss.r2_gamma=0.0: r3gan sets both by loss.gamma",
                "not 30x30; nearest: data.image_size=24|28|32",
            ],
        ),
        ("loss=wasserstein loss.weight_clip=null", ["loss.weight_clip=null: nothing bounds the"]),
        ("loss.penalty_interval=4", ["loss.penalty_interval=4: is for R1 and R2, and both are"]),
        (
            "model.share_fakes=true loss.n_critic=2",
            ["share_fakes=True: needs", "must be 1"],
        ),
        (f"{LINEAR} {NESTEROV}", ["optimizer.generator: ValueError: Nesterov momentum requires"]),
        (LINEAR, ["schedule=linear: a schedule needs a run of known length; set trainer.max_s"]),
        (
            "model.generator.hidden=[1000000,100000000]",
            ["model.generator: forger.networks.mlp.Generator: RuntimeError: ", "llocate memory"],
        ),
        ("data.batch_size=5000", ["there are 4500 training images; write data.batch_size=4500"]),
        ("data.batch_size=1", ["model.generator: fails on an input", "needs more images"]),
        ("loss.n_critic=1000", ["one iteration takes 1000 batches", "data.batch_size=4 or less"]),
        (
            "+trainer.limit_train_batches=1e-4 objective=train/relative_tpr",
            ["2 problems:", "an epoch has 562 iterations", "relative_tpr: will not be logged"],
        ),
        ("data=mnist data.download=false data.root=/nowhere", ["data=mnist_sample"]),
    ],
)
def test_contradictions_come_before_anything_is_written(
    overrides: str, messages: list[str], composed: Compose, tmp_path: Path
) -> None:
    cfg = composed(*latest([*short(tmp_path, "metrics=none"), *overrides.split()]))
    check(cfg)
    with pytest.raises((ConfigError, DataError)) as caught:
        train(cfg)
    for message in messages:
        assert message in str(caught.value)
    assert not (tmp_path / "logs").exists()
