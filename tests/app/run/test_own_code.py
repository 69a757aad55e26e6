"""Functions, objects and modules of the user's own as targets: taken, or told what is wrong."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
from lightning import LightningDataModule
from omegaconf import DictConfig, OmegaConf, open_dict

import forger
from forger.app.config.check import check, find_problems
from forger.app.run.build import (
    build_data,
    build_gan,
    build_loggers,
    build_trainer,
    check_trackers,
)
from forger.app.run.checks import check_updates
from forger.app.run.instantiate import import_targets
from forger.data import ImageDataModule
from forger.errors import ConfigError, UserError

SHAPE = (1, 8, 8)
NETS = """
    import functools
    import math

    import torch
    from torch import nn

    from forger.losses import Hinge
    from forger.schedules import Constant

    class Generator(nn.Module):
        def __init__(self, image_shape, width: int = 4, latent_dim: int = 3) -> None:
            super().__init__()
            self.image_shape, self.latent_dim, self.width = image_shape, latent_dim, width
            self.layers = nn.Linear(latent_dim, math.prod(image_shape))

        def forward(self, noise):
            return self.layers(noise).view(-1, *self.image_shape)

        @classmethod
        def small(cls, image_shape, width: int = 4):
            return cls(image_shape, width)

    class Discriminator(nn.Module):
        def __init__(self, image_shape, gradient_penalty: bool = False) -> None:
            super().__init__()
            self.penalised = gradient_penalty
            self.layers = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), 1))

        def forward(self, images):
            return self.layers(images)

    def traced(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)
        return wrapper

    def make_generator(image_shape, width: int = 4):
        return Generator(image_shape, width)

    @traced
    def traced_generator(image_shape, width=4):
        return Generator(image_shape, width)

    class Chosen:
        def __new__(cls, image_shape, width=4):
            return Generator(image_shape, width)

    partial_generator = functools.partial(Generator, latent_dim=5)
    for name in ("looped",):
        looped = make_generator

    def make_discriminator(image_shape, gradient_penalty):
        return Discriminator(image_shape, gradient_penalty)

    def make_loss(n_critic: int = 1, **others):
        return Hinge(n_critic=n_critic)

    def make_plain_loss():
        return Hinge(r1_gamma=2.0)

    def make_adam(params, lr, betas):
        return torch.optim.Adam(params, lr=lr, betas=betas)

    def not_an_optimizer(params, lr, betas):
        return 3

    def warm_up(progress, steps):
        return min(1.0, progress * steps)

    def nothing(**others):
        pass

    def width(of):
        return 2 * of

    number = 3
"""
DATA = """
    import torch
    from lightning import Callback, LightningDataModule
    from lightning.pytorch.loggers import CSVLogger
    from forger.data import ImageDataModule

    class Noise(ImageDataModule):
        native_shape = (1, 8, 8)

        def __init__(self, folder=None, **others):
            super().__init__(**others)

        def read(self, split):
            return {"image": torch.zeros(40, 1, 8, 8, dtype=torch.uint8)}

    def make_noise(batch_size: int, seed: int):
        return Noise(batch_size=batch_size, seed=seed)

    def without_seed(batch_size: int):
        return Noise(batch_size=batch_size)

    class Foreign(LightningDataModule):
        def __init__(self, batch_size: int, seed: int):
            super().__init__()
            self.seed = seed

    def make_callback():
        return Callback()

    def make_logger(save_dir):
        return CSVLogger(save_dir)
"""


def build_all(cfg: DictConfig, folder: Path) -> None:
    """Does what a run does before there is any work to lose."""
    check(cfg)
    import_targets(cfg)
    check_trackers(cfg)
    build_data(cfg, 0)
    check_updates(build_gan(cfg, SHAPE, 0), cfg.trainer)
    build_trainer(cfg, folder, build_loggers(cfg, folder), [])


Compose = Callable[..., DictConfig]
Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module of a new name into a folder that Python imports from."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names: list[str] = []

    def new(source: str) -> str:
        names.append(f"own_{abs(hash(tmp_path))}_{len(names)}")
        (tmp_path / f"{names[-1]}.py").write_text(dedent(source))
        return names[-1]

    yield new
    for name in names:
        sys.modules.pop(name, None)


def put(cfg: DictConfig, key: str, node: Any) -> DictConfig:
    with open_dict(cfg):
        OmegaConf.update(cfg, key, node, merge=False)
    return cfg


GENERATORS = [
    *("Generator", "Generator.small", "make_generator", "traced_generator", "partial_generator"),
    *("Chosen", "looped"),
]


@pytest.mark.parametrize("name", GENERATORS)
def test_a_generator_made_by(name: str, composed: Compose, write: Write, tmp_path: Path) -> None:
    node = {"_target_": f"{write(NETS)}.{name}"}
    cfg = put(composed(), "model.generator", node | {"width": 6})
    check(cfg)
    assert build_gan(cfg, SHAPE, 0).generator.width == 6
    put(cfg, "model.generator", node | {"wdith": 6})
    with pytest.raises(ConfigError, match=r"model\.generator.*wdith"):
        build_all(cfg, tmp_path)


def test_functions_everywhere(composed: Compose, write: Write, tmp_path: Path) -> None:
    nets, data = write(NETS), write(DATA)
    cfg = composed("loss.r1_gamma=1", "optimizer.betas=[0,0.9]")
    nodes: dict[str, Any] = {
        "model.generator": {"_target_": f"{nets}.make_generator"},
        "model.generator.width": {"_target_": f"{nets}.width", "of": 8},
        "model.discriminator": {"_target_": f"{nets}.make_discriminator"},
        "loss": {"_target_": f"{nets}.make_loss", "n_critic": 2, "gamma": 1},
        "schedule.generator": {"_target_": f"{nets}.warm_up", "_partial_": True, "steps": 4},
        "data": {"_target_": f"{data}.make_noise", "batch_size": 5},
        "callbacks": {"mine": {"_target_": f"{data}.make_callback"}},
        "logger": {"mine": {"_target_": f"{data}.make_logger"}},
    }
    for key, node in nodes.items():
        put(cfg, key, node)
    for network in ("generator", "discriminator"):
        put(cfg, f"optimizer.{network}._target_", f"{nets}.make_adam")
        del cfg.optimizer[network].fused
    cfg.trainer.max_steps = 10
    cfg.trainer.precision = "32-true"
    build_all(cfg, tmp_path)
    assert build_data(cfg, 7).seed == 7  # type: ignore[attr-defined]
    gan = build_gan(cfg, SHAPE, 0)
    assert (gan.generator.width, gan.loss.n_critic) == (16, 2)
    optimizer = gan.generator_updates.make_optimizer(gan.generator)
    scheduler = gan.generator_updates.make_scheduler(optimizer, 10)
    assert scheduler is not None
    assert scheduler.lr_lambdas[0](1) == pytest.approx(0.4)


def test_a_loss_that_takes_none_of_our_settings(composed: Compose, write: Write) -> None:
    cfg = composed("loss=hinge")
    put(cfg, "loss._target_", f"{write(NETS)}.make_plain_loss")
    check(cfg)
    assert build_gan(cfg, SHAPE, 0).loss.r1_gamma == 2
    cfg.loss.r1_gamma = 1.0
    with pytest.raises(ConfigError, match=r"loss.r1_gamma=1.0: unknown setting of .*plain_loss"):
        check(cfg)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("make_noise", ImageDataModule),
        ("Noise", ImageDataModule),  # which passes the seed on
        ("without_seed", ImageDataModule),
        ("Foreign", LightningDataModule),
    ],
)
def test_data_that_asks_is_given_the_seed(
    name: str, kind: type, composed: Compose, write: Write
) -> None:
    cfg = put(composed(), "data", {"_target_": f"{write(DATA)}.{name}", "batch_size": 4})
    check(cfg)
    data: Any = build_data(cfg, 7)
    assert isinstance(data, kind)
    assert data.seed == 7


KINDS = {
    **{"data": "LightningDataModule", "loss": "AdversarialLoss", "model.generator": "Module"},
    **{"model.discriminator": "Module", "schedule.generator": "Callable"},
    **{"callbacks.mine": "Callback", "logger.mine": "Logger"},
}


@pytest.mark.parametrize("key", KINDS)
def test_what_comes_out_is_looked_at(
    key: str, composed: Compose, write: Write, tmp_path: Path
) -> None:
    target = f"{write(NETS)}.nothing"
    cfg = put(composed("trainer.precision=32-true"), key, {"_target_": target})
    told = re.escape(f"{key}: {target} gives nothing, and must give a {KINDS[key]}")
    with pytest.raises(ConfigError, match=told):
        build_all(cfg, tmp_path)


def test_what_is_no_optimizer_and_what_cannot_be_called(
    composed: Compose, write: Write, tmp_path: Path
) -> None:
    nets = write(NETS)
    node = {"_target_": f"{nets}.not_an_optimizer", "_partial_": True, "lr": 1.0, "betas": [0, 0]}
    cfg = put(composed("trainer.precision=32-true"), "optimizer.generator", node)
    with pytest.raises(ConfigError, match=r"gives an object of int, and must give a torch\.optim"):
        build_all(cfg, tmp_path)
    cfg = put(composed(), "model.generator", {"_target_": f"{nets}.number"})
    with pytest.raises(ConfigError, match="is an object of int, and no class or"):
        build_all(cfg, tmp_path)


BROKEN = {
    "class G(:\n    pass\n": (1, "SyntaxError"),
    "x = 1\nimport no_such_package\n": (
        2,
        "ModuleNotFoundError: No module named 'no_such_package'",
    ),
    "def f():\n    return 1 / 0\nf()\n": (2, "ZeroDivisionError: division by zero"),
    "import sys\nsys.exit(3)\n": (2, "SystemExit: 3"),
    "x = 1\n\nraise OSError('no\\nlicence')\n": (3, "OSError: no licence"),
}


@pytest.mark.parametrize("source", BROKEN)
def test_a_module_that_cannot_be_imported(
    source: str, composed: Compose, write: Write, tmp_path: Path
) -> None:
    name = write("")
    (tmp_path / f"{name}.py").write_text(f"{source}def G(image_shape): ...\n")
    cfg = put(composed(), "model.generator", {"_target_": f"{name}.G"})
    line, error = BROKEN[source]
    with pytest.raises(ConfigError) as caught:
        build_all(cfg, tmp_path)
    head = f"model.generator._target_={name}.G: cannot be imported: "
    assert str(caught.value).startswith(head)
    assert f"{name}.py, line {line}: {error}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_of_several_parts_is_told_once(composed: Compose) -> None:
    cfg = put(composed(), "model.generator", {"_target_": "no_such_module.G"})
    put(cfg, "model.discriminator", {"_target_": "no_such_module.D"})
    (problem,) = find_problems(put(cfg, "data", {"_target_": "no_such_module.Data"}))
    assert problem.key == "model.generator._target_"


def test_names_that_are_not_there(composed: Compose, write: Write, tmp_path: Path) -> None:
    name = write(NETS)
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "__init__.py").touch()
    (tmp_path / "own_package" / "generator.py").write_text("def generator(image_shape): ...\n")
    cases = {
        f"{name}.Genrator": f"{name}.py) has no 'Genrator'; did you mean 'Generator'?",
        "own_package.genrator.G": "__init__.py) has no 'genrator'; did you mean 'generator'?",
        "own_package.generator": "is a module; name a class or a function in it",
    }
    for target, message in cases.items():
        with pytest.raises(ConfigError, match=re.escape(message)):
            check(put(composed(), "model.generator", {"_target_": target}))
    for target in (f"{name}.Generator.large", f"{name}.number.real"):
        with pytest.raises(ConfigError, match=r"has no 'large'|is an object of int"):
            import_targets(put(composed(), "model.generator", {"_target_": target}))


def test_a_function_that_has_the_name_of_its_file(
    composed: Compose, write: Write, tmp_path: Path
) -> None:
    name = write("")
    package = tmp_path / f"{name}_package"
    package.mkdir()
    (package / "generator.py").write_text(dedent(NETS) + "\ngenerator = make_generator\n")
    (package / "__init__.py").write_text("from .generator import generator\n")
    target = f"{package.name}.generator"
    cfg = put(composed(), "model.generator", {"_target_": target, "width": 6})
    check(cfg)
    assert build_gan(cfg, SHAPE, 0).generator.width == 6


def checkpoint(cfg: DictConfig, path: Path) -> Path:
    gan = build_gan(cfg, SHAPE, 0)
    config = OmegaConf.to_container(cfg, resolve=True)
    content = {"config": config, "image_shape": list(SHAPE), "state_dict": gan.state_dict()}
    torch.save(content, path)
    return path


def test_a_run_whose_code_has_changed(composed: Compose, write: Write, tmp_path: Path) -> None:
    """What does not fit is the user's own code, and the message says so."""
    name = write(NETS)
    node = {"_target_": f"{name}.Generator", "width": 6}
    run = checkpoint(put(composed(), "model.generator", node), tmp_path / "run.ckpt")
    source = tmp_path / f"{name}.py"
    assert forger.load(run, trust=[name]).generator.width == 6
    changes = {
        "import no_such_package\n": rf"{name}.py, line 1: ModuleNotFoundError: No module named",
        "def f(:": rf"{name}.py, line 1: SyntaxError",
        dedent(NETS).replace("width: int = 4, ", ""): r"model.generator: .* argument 'width'",
        dedent(NETS).replace("latent_dim: int = 3", "latent_dim: int = 7"): rf"fit {name}.Gen.* as",
    }
    for text, message in changes.items():
        sys.modules.pop(name)
        source.write_text(text)
        with pytest.raises(UserError, match=message) as caught:
            forger.load(run, trust=[name])
        assert str(run) in str(caught.value)
        sys.modules[name] = type(sys)(name)
