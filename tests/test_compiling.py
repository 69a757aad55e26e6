"""Compiled networks train as others do, from the first iteration's graphs alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import SHAPE, conditional, fit, make_dcgan, make_gan
from lightning import Callback
from resuming import assert_resumes, full_gan, squares
from torch import Tensor
from torch._dynamo.utils import counters

from forger import losses as L
from forger.callbacks import SampleGrid
from forger.compiling import compile_networks, uncompiled
from forger.gan import GAN
from forger.networks import dcgan, mlp
from forger.penalties import gradient_norms
from forger.updates import Updates

# torch's compiler looks at it and hides the warning when shown; here it is raised first
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")

CHEAP = "aot_eager"  # graphs forward and backward as inductor gets them, run by torch itself
MOST_GRAPHS = 6  # G with and without gradients; D of real, of fake, frozen of fake, frozen of real

WGAN_GP = L.Wasserstein(gradient_penalty=10.0, n_critic=2)
R1 = L.NonSaturating(r1_gamma=1.0, penalty_interval=2)


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keeps what is compiled, and its count, within the test."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


def graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


def compiled(gan: GAN, backend: str = CHEAP) -> GAN:
    compile_networks(gan.generator, gan.discriminator, backend=backend)
    return gan


class Graphs(Callback):
    """Notes after each iteration how many graphs there are."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.counts.append(graphs())


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-3, atol=1e-5, msg=name)


def spectral() -> GAN:
    torch.manual_seed(0)
    discriminator = dcgan.Discriminator(SHAPE, width=4, norm="spectral")
    return make_gan(dcgan, discriminator=discriminator)


ACCUMULATED = Updates(accumulate=2, gradient_clip=0.1)
MODELS: dict[str, tuple[Callable[[], GAN], str]] = {
    "non_saturating": (make_gan, "32-true"),
    "non_saturating, dcgan": (make_dcgan, "bf16-mixed"),
    "weight clip": (lambda: make_dcgan(loss=L.Wasserstein(weight_clip=0.01)), "32-true"),
    "dragan": (lambda: make_gan(loss=L.Dragan()), "bf16-mixed"),
    "wgan_gp": (lambda: make_dcgan(loss=WGAN_GP), "32-true"),
    "relativistic_average": (lambda: make_gan(loss=L.RelativisticAverage()), "32-true"),
    "r3gan": (lambda: make_dcgan(loss=L.R3GAN()), "bf16-mixed"),
    "shared fakes": (lambda: make_dcgan(share_fakes=True), "32-true"),
    "accumulated": (lambda: make_dcgan(discriminator_updates=ACCUMULATED), "32-true"),
    "no average": (lambda: make_dcgan(ema_decay=0.0), "32-true"),
    "spectral norm": (spectral, "32-true"),
    "projection": (lambda: make_gan(dcgan, **conditional("projection", dcgan)), "bf16-mixed"),
    "auxiliary": (lambda: make_gan(**conditional("auxiliary")), "32-true"),
    "concat": (lambda: make_gan(loss=WGAN_GP, **conditional("concat")), "32-true"),
}


# The others are graphs of the same kinds; to compile each takes its time.
QUICK = ("non_saturating", "wgan_gp", "projection")
SLOW = [pytest.param(one, marks=pytest.mark.slow) for one in MODELS if one not in QUICK]


@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_training_computes_the_same(name: str, tmp_path: Path) -> None:
    """Weights, average and statistics, under the same names; all graphs in iteration 1."""
    make, precision = MODELS[name]
    plain, gan, noted = make(), compiled(make()), Graphs()
    fit(plain, tmp_path, precision=precision)
    assert graphs() == 0
    fit(gan, tmp_path, precision=precision, callbacks=[noted])
    assert_close(gan.state_dict(), plain.state_dict())
    assert 3 + (name != "shared fakes") <= noted.counts[0] <= MOST_GRAPHS
    assert noted.counts == noted.counts[:1] * 3


def test_grids_of_other_sizes_compile_nothing(tmp_path: Path) -> None:
    """Both generators draw 100 images after each iteration."""
    gan, noted = compiled(make_dcgan()), Graphs()
    fit(gan, tmp_path, callbacks=[SampleGrid(n=100, every_n_steps=1), noted])
    assert len(list((tmp_path / "samples").glob("*_raw.png"))) == 4  # and before the first
    assert noted.counts == [4, 4, 4]


def test_it_resumes_to_the_same_bits(tmp_path: Path) -> None:
    assert_resumes(tmp_path, lambda: compiled(full_gan(R1)), squares, kills=(3, 8))


def test_uncompiled_gives_gradients_of_gradients() -> None:
    gan, images = compiled(make_gan()), torch.randn(4, *SHAPE)
    with pytest.raises(RuntimeError, match=r"double backward|does not require grad"):
        gradient_norms(gan.discriminator, images).sum().backward()
    before = graphs()
    with uncompiled():
        norms = gradient_norms(gan.discriminator, images[:3])
    norms.sum().backward()
    assert gan.discriminator.layers[1].weight.grad.any()
    assert graphs() == before


def test_many_runs_in_one_process_all_compile() -> None:
    """Torch would stop after eight graphs of the same code, and go on without."""
    for size in range(1, 10):
        network = mlp.Discriminator((1, 1, size))
        compile_networks(network, backend="eager")
        network(torch.zeros(2, 1, 1, size))
        assert graphs() == size


@pytest.mark.slow
@pytest.mark.parametrize("make", [make_gan, make_dcgan])
def test_inductor_computes_the_same(make: Callable[..., GAN], tmp_path: Path) -> None:
    """In 64 bits: Adam makes whole steps of the noise that is the gradient of some biases."""
    plain, gan, noted = make(loss=R1), compiled(make(loss=R1), "inductor"), Graphs()
    fit(plain, tmp_path, precision="64-true")
    fit(gan, tmp_path, precision="64-true", callbacks=[noted])
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(gan.state_dict()[name], value, rtol=0, atol=1e-6, msg=name)
    assert len(set(noted.counts)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("make", [make_gan, make_dcgan])
def test_inductor_resumes_to_the_same_bits(
    make: Callable[..., GAN], precision: str, tmp_path: Path
) -> None:
    def make_compiled() -> GAN:
        return compiled(full_gan(R1, make), "inductor")

    assert_resumes(tmp_path, make_compiled, squares, kills=(3,), precision=precision)
