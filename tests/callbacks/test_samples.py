from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from disks import fill, small_disk
from fake_gan import FakeGAN, fit
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import SingleDeviceStrategy
from PIL import Image
from torch import Tensor, nn

from forger.callbacks import SampleGrid
from forger.callbacks.samples import _eval_mode
from forger.errors import ConfigError
from forger.pictures import image_grid, png_bytes


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "samples").iterdir())


def test_grids_are_written_at_the_interval_and_once_at_the_end(tmp_path: Path) -> None:
    fit(tmp_path, SampleGrid(every_n_steps=4))
    assert names(tmp_path) == [
        "000004_ema.png",
        "000004_raw.png",
        "000008_ema.png",
        "000008_raw.png",
        "000010_ema.png",
        "000010_raw.png",
        "last.png",
    ]
    newest = tmp_path / "samples" / "000010_ema.png"
    assert (tmp_path / "samples" / "last.png").read_bytes() == newest.read_bytes()
    with Image.open(newest) as image:
        assert image.size == (690, 690)  # 8 columns of 28 px, three times as large


def test_the_last_iteration_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Tensor] = []

    def counted(images: Tensor) -> Tensor:
        drawn.append(images)
        return image_grid(images)

    monkeypatch.setattr("forger.callbacks.samples.image_grid", counted)
    fit(tmp_path, SampleGrid(every_n_steps=5, raw=False))
    assert len(drawn) == 2


def test_without_raw_only_the_averaged_generator_is_drawn(tmp_path: Path) -> None:
    fit(tmp_path, SampleGrid(raw=False))
    assert names(tmp_path) == ["000010_ema.png", "last.png"]


def test_the_grid_shows_what_the_generator_makes_of_the_fixed_noise(tmp_path: Path) -> None:
    gan = FakeGAN((3, 8, 8))
    fit(tmp_path, SampleGrid(n=70, seed=3), gan=gan)  # more than one batch

    noise = torch.randn(70, 4, generator=torch.Generator().manual_seed(3))
    for kind, network in (("ema", gan.ema_generator), ("raw", gan.generator)):
        with torch.no_grad():
            images = network.eval()(noise)
        expected = png_bytes(image_grid(images))
        assert (tmp_path / "samples" / f"000010_{kind}.png").read_bytes() == expected


@pytest.mark.parametrize("own_randomness", [False, True])
def test_training_is_equal_in_bits_with_and_without_it(
    tmp_path: Path, own_randomness: bool
) -> None:
    class Jitter(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 0.1 * torch.randn_like(x)

    def train(*callbacks: Callback) -> tuple[dict[str, Tensor], Tensor]:
        seed_everything(0, verbose=False)
        gan = FakeGAN()
        if own_randomness:
            gan.generator.append(Jitter())
        fit(tmp_path, *callbacks, gan=gan)
        return gan.state_dict(), torch.get_rng_state()

    weights, random_state = train()
    watched_weights, watched_random_state = train(SampleGrid(every_n_steps=1))
    assert all(torch.equal(weights[key], watched_weights[key]) for key in weights)
    assert torch.equal(random_state, watched_random_state)


def test_each_submodule_gets_its_own_mode_back(tmp_path: Path) -> None:
    class Watch(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            pl_module.generator[1].eval()  # frozen statistics in a network that trains

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            modes.append([m.training for m in pl_module.generator.modules()])
            averaged.append(any(m.training for m in pl_module.ema_generator.modules()))

    modes: list[list[bool]] = []
    averaged: list[bool] = []
    gan = FakeGAN()
    gan.ema_generator.requires_grad_(False)
    seen: list[bool] = []
    gan.generator.register_forward_hook(lambda m, *_: seen.append(m.training))
    fit(tmp_path, SampleGrid(every_n_steps=1), Watch(), gan=gan, batches=2)

    assert modes == [[True, True, False, True, True, True]] * 2
    assert averaged == [False, False]
    assert seen == [True, False] * 2  # a training step, then samples in eval mode


def test_modes_come_back_when_the_generator_fails(tmp_path: Path) -> None:
    gan = FakeGAN()
    with pytest.raises(RuntimeError), _eval_mode(gan.generator):
        raise RuntimeError
    assert all(module.training for module in gan.generator.modules())


def test_samples_keep_the_precision_of_the_network(tmp_path: Path) -> None:
    dtypes: list[torch.dtype] = []
    gan = FakeGAN()
    gan.ema_generator.register_forward_hook(lambda *hook: dtypes.append(hook[-1].dtype))
    fit(tmp_path, SampleGrid(), gan=gan, precision="bf16-mixed")
    assert dtypes == [torch.float32]


def test_other_ranks_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SingleDeviceStrategy, "is_global_zero", property(lambda _: False))
    fit(tmp_path, SampleGrid(every_n_steps=1))
    assert not (tmp_path / "samples").exists()


def test_a_full_disk_leaves_no_half_picture(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kilobytes=64) as disk:
        fit(disk, SampleGrid(n=4, raw=False), batches=1)
        before = {path.name: path.read_bytes() for path in (disk / "samples").iterdir()}
        fill(disk)
        with pytest.raises(OSError, match="No space left"):
            fit(disk, SampleGrid(n=4, raw=False), batches=2)
        assert {path.name: path.read_bytes() for path in (disk / "samples").iterdir()} == before


def test_what_a_killed_run_left_half_written_is_removed(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from forger.whole_files import whole_file\n"
        "with whole_file(Path(sys.argv[1], 'samples', '000004_ema.png')) as file:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert len(names(tmp_path)) == 1
    fit(tmp_path, SampleGrid(raw=False))
    assert names(tmp_path) == ["000010_ema.png", "last.png"]


def test_loggers_that_take_images_get_the_grids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plain(Logger):
        name = version = ""

        def log_metrics(self, *args: Any, **kwargs: Any) -> None: ...

        def log_hyperparams(self, *args: Any, **kwargs: Any) -> None: ...

    sent: list[tuple[Any, str, tuple[int, ...], int]] = []
    monkeypatch.setattr(
        "forger.callbacks.samples.log_image",
        lambda lg, key, im, step: sent.append((lg, key, im.shape, step)),
    )
    loggers = [Plain(), Plain()]
    fit(tmp_path, SampleGrid(every_n_steps=10), logger=loggers)
    assert sent == [
        (logger, f"samples/{kind}", (1, 690, 690), 10)
        for kind in ("ema", "raw")
        for logger in loggers
    ]


@pytest.mark.parametrize("setting", [{"n": 0}, {"every_n_steps": 0}, {"seed": -1}, {"n": 1.5}])
def test_senseless_settings_are_refused_by_name(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        SampleGrid(**setting)
