"""The check's table of facts equals the real objects, and its rules equal their refusals."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_class
from lightning.pytorch.strategies import StrategyRegistry
from lightning.pytorch.trainer.connectors.accelerator_connector import _AcceleratorConnector
from omegaconf import DictConfig, OmegaConf

import forger.data
from forger.app.config import data_rules, facts, trainer_rules
from forger.app.config.accepted import Select
from forger.app.config.check import find_problems
from forger.app.config.values import read_values
from forger.app.run.build import build_gan
from forger.app.run.instantiate import instantiate
from forger.data import ImageDataModule, MNISTSample
from forger.data.folder_listing import list_images
from forger.data.torchvision_sets import FASHION_SHAPES, TorchvisionSet
from forger.errors import ConfigError
from forger.losses import AdversarialLoss
from forger.networks import dcgan, mlp
from forger.networks.sizes import plan_sizes

CONFIGS = Path(__file__).parents[3] / "configs"
LOSSES = sorted(path.stem for path in (CONFIGS / "loss").glob("*.yaml"))

Compose = Callable[..., DictConfig]


def select(cfg: DictConfig) -> Select:
    return Select(read_values(cfg), {})


def subclasses(kind: type) -> set[type]:
    below = set(kind.__subclasses__())
    return below | {one for child in below for one in subclasses(child)}


def loss_of(cfg: DictConfig) -> AdversarialLoss | None:
    try:
        loss: AdversarialLoss = instantiate(cfg.loss)
    except ConfigError:
        return None
    return loss


@pytest.mark.parametrize("loss", LOSSES)
def test_losses(loss: str, composed: Compose) -> None:
    """For a grid of settings: what penalises gradients, how many batches, and what is refused."""
    base = composed(f"loss={loss}")
    grid: dict[str, list[Any]] = {
        "r1_gamma": [0.0, 0.1],
        "r2_gamma": [0, 2],
        "weight_clip": [None, 0.01],
        "penalty_interval": [1, 4],
        "gradient_penalty": [0.0, 10.0],
    }
    known = {name: values for name, values in grid.items() if name in base.loss}
    for values in itertools.product(*known.values()):
        cfg = base.copy()
        cfg.loss.update(zip(known, values, strict=True))
        found = {problem.key for problem in find_problems(cfg)}
        real = loss_of(cfg)
        ignored = found == {"loss.penalty_interval"}  # no error to the loss: of no effect
        assert (real is None) == bool(found and not ignored), cfg.loss
        if real is None:
            continue
        assert facts.penalises_gradients(select(cfg)) == bool(real.penalties)
        applied = any(penalty.interval > 1 for penalty in real.penalties.values())
        assert ignored == (real.penalty_interval > 1 and not applied), cfg.loss
        cfg.model.accumulate = {"discriminator": 2, "generator": 3}
        expected = real.n_critic * 2 + 3 * real.generator_sees_real
        assert facts.batches_per_iteration(select(cfg)) == expected


def test_the_gan_counts_its_batches_alike(composed: Compose) -> None:
    cfg = composed("loss=r3gan", "model.accumulate.generator=2", "loss.n_critic=3")
    assert facts.batches_per_iteration(select(cfg)) == 5
    assert build_gan(cfg, (1, 28, 28), 0).batches_per_iteration == 5


def test_every_data_set_of_ours_is_known() -> None:
    public = [getattr(forger.data, name) for name in forger.data.__all__]
    ours = {
        f"{kind.__module__}.{kind.__name__}"
        for kind in public
        if isinstance(kind, type) and issubclass(kind, ImageDataModule) and kind != ImageDataModule
    }
    assert ours == {*facts.DATA_SETS, facts.FOLDER}


@pytest.mark.parametrize("target", sorted(facts.DATA_SETS))
def test_shapes_and_counts(target: str, composed: Compose) -> None:
    kind: Any = get_class(target)
    arguments = {"root": "."} if issubclass(kind, TorchvisionSet) else {}
    known = facts.DATA_SETS[target]
    for size in (None, 40):
        cfg = composed()
        cfg.data = OmegaConf.create({"_target_": target, "image_size": size, **arguments})
        assert facts.image_shape(select(cfg)) == kind(image_size=size, **arguments).image_shape
    if kind is MNISTSample:
        assert known.count == kind().num_train_images
    else:  # the data sets' own files are not here; torchvision's numbers are in its docstrings
        sizes = {"MNIST": 60_000, "FashionMNIST": FASHION_SHAPES["train-labels-idx1-ubyte"][0]}
        assert known.count == sizes.get(kind.__name__, 5 * 10_000)  # CIFAR-10 has five files


def test_names_of_scores_by_our_features(composed: Compose) -> None:
    files = (CONFIGS / "metrics" / "features").glob("*.yaml")
    made = [
        instantiate(composed(f"metrics/features={path.stem}").metrics.features) for path in files
    ]
    found = {f"{type(one).__module__}.{type(one).__name__}": one.prefix for one in made}
    assert found == facts.PREFIXES


def test_schedules_that_need_an_end() -> None:
    import forger.schedules as module

    kinds = [kind for kind in vars(module).values() if hasattr(kind, "needs_total")]
    concrete = [kind for kind in kinds if not getattr(kind, "__abstractmethods__", None)]
    needy = {f"{kind.__module__}.{kind.__name__}" for kind in concrete if kind.needs_total}
    assert needy == facts.NEED_TOTAL


def test_losses_that_see_real_images() -> None:
    ours = {kind for kind in subclasses(AdversarialLoss) if kind.__module__ == facts.LOSSES}
    assert {kind.__name__ for kind in ours if kind.generator_sees_real} == facts.SEE_REAL
    kinds = [kind for kind in ours if not inspect.isabstract(kind)]
    made = {kind.__name__: kind(weight_clip=1.0) for kind in kinds}
    assert {name for name, loss in made.items() if loss.boundary is None} == facts.NO_BOUNDARY


def test_image_sizes(composed: Compose) -> None:
    base = composed("model=dcgan", "data=mnist_sample")
    for size in (*range(1, 34), 48, 50, 56, 64, 66, 80, 128):
        cfg = base.copy()
        cfg.data.image_size = size
        try:
            dcgan.Discriminator((1, size, size), width=1)
            dcgan.Generator((1, size, size), latent_dim=1, width=1)
            fits = True
        except ConfigError:
            fits = False
        assert fits == (find_problems(cfg) == []), size


@pytest.mark.parametrize("model", ["vanilla", "dcgan"])
def test_norms(model: str, composed: Compose) -> None:
    networks = {"vanilla": mlp, "dcgan": dcgan}[model]
    for loss in ("hinge", "wgan_gp", "r3gan"):
        cfg = composed(f"model={model}", f"loss={loss}")
        real: Any = loss_of(cfg)
        for norm in ("auto", "batch", "layer", "instance", "spectral", "none"):
            cfg.model.discriminator.norm = norm
            try:
                networks.Discriminator(
                    (1, 28, 28), norm=norm, gradient_penalty=bool(real.penalties)
                )
                fits = True
            except ConfigError:
                fits = False
            assert fits == (find_problems(cfg) == []), (loss, norm)


def test_a_network_too_large_for_any_machine(composed: Compose) -> None:
    assert find_problems(composed("model.generator.hidden=[100000,100000]")) == []
    for word in ("generator.hidden=[1000000,1000000]", "generator.latent_dim=10000000000"):
        (found,) = find_problems(composed(f"model.{word}"))
        assert "makes a network of" in found.text
    (found,) = find_problems(composed("model=dcgan", "model.discriminator.width=1000000"))
    assert found.key == "model.discriminator.width"


def test_strategies_of_lightning_are_known_or_refused() -> None:
    names = StrategyRegistry.available_strategies()
    assert set(trainer_rules.STRATEGIES) - {"auto"} <= set(names)
    assert _AcceleratorConnector(strategy="ddp", accelerator="cpu", devices=2)


class TestFolders:
    def images(self, folder: Path, count: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            (folder / f"{index}.png").touch()

    @pytest.mark.parametrize("fraction", [0, 0.1, 0.5, 0.9])
    @pytest.mark.parametrize("layout", ["flat", "classes", "train", "both", "deeper"])
    def test_counts_what_training_would_use(
        self, layout: str, fraction: float, tmp_path: Path, composed: Compose
    ) -> None:
        for place in {
            "flat": [""],
            "classes": ["a", "b"],
            "train": ["train/a", "train/b"],
            "both": ["train", "test"],
            "deeper": ["all/Train/a", "all/Train/b", "all/val/a"],
        }[layout]:
            self.images(tmp_path / place, 11)
        (tmp_path / "notes.txt").touch()
        (tmp_path / ".hidden.png").touch()
        real = list_images(tmp_path, fraction).num_train
        words = ["data=image_folder", f"data.root={tmp_path}", f"data.test_fraction={fraction}"]
        assert (
            find_problems(composed(*words, "model.generator.norm=none", f"data.batch_size={real}"))
            == []
        )
        (found,) = find_problems(composed(*words, f"data.batch_size={real + 1}"))
        assert found.text.endswith(
            f"there are {real} training images; write data.batch_size={real} or less"
        )

    def test_it_stops_counting(
        self, tmp_path: Path, composed: Compose, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.images(tmp_path, 5)
        monkeypatch.setattr(data_rules, "_LOOKED_AT", 4)
        assert find_problems(composed("data=image_folder", f"data.root={tmp_path}")) == []

    def test_a_folder_that_does_not_tell_is_refused(
        self, tmp_path: Path, composed: Compose
    ) -> None:
        for place in ("trainA", "trainB", "testA", "testB"):
            self.images(tmp_path / place, 100)
        words = ["data=image_folder", f"data.root={tmp_path}"]
        (found,) = find_problems(composed(*words))
        assert "write for example data.train_folder=trainA data.test_folder=testA" in found.text
        words += ["data.train_folder=trainA", "data.test_folder=testA"]
        assert find_problems(composed(*words)) == []

    @pytest.mark.parametrize("key", ["cache_dir", "log_dir"])
    def test_no_run_writes_among_the_images(
        self, key: str, tmp_path: Path, composed: Compose
    ) -> None:
        self.images(tmp_path / "images", 100)
        words = ["data=image_folder", f"data.root={tmp_path / 'images'}"]
        (found,) = find_problems(composed(*words, f"paths.{key}={tmp_path}/images/more/x"))
        assert found.key == "data.root"
        assert f"is never written to, and paths.{key}={tmp_path}/images/more/x lies" in found.text
        assert find_problems(composed(*words, f"paths.{key}={tmp_path}/images2")) == []

    def test_too_few_and_none(self, tmp_path: Path, composed: Compose) -> None:
        cfg = composed("data=image_folder", f"data.root={tmp_path}", "data.batch_size=16")
        (found,) = find_problems(cfg)
        assert found.text.endswith("holds no images; there is nothing in it")
        self.images(tmp_path, 11)
        (found,) = find_problems(cfg)
        assert found.text == (
            "data.batch_size=16: there are 10 training images; write data.batch_size=10 or less"
        )
        self.images(tmp_path, 18)
        assert find_problems(cfg) == []


def test_sizes_are_planned_without_torch() -> None:
    assert plan_sizes((3, 64, 64)) == (4, 4)
    assert plan_sizes((1, 28, 28)) == (7, 2)
    assert dcgan.plan_sizes is plan_sizes
