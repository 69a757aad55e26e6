from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from disks import fill, small_disk
from helpers import make_gan
from lightning.pytorch import seed_everything
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import SingleDeviceStrategy
from PIL import Image
from same import differences
from short_run import After, run
from torch import Tensor, nn

from forger.callbacks import SampleGrid
from forger.callbacks.exact_resume import ExactResume
from forger.conditions import Labels
from forger.loggers import Tracker
from forger.networks import mlp
from forger.pictures import image_grid, png_bytes
from forger.sampling.sampler import Sampler


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "samples").iterdir())


def test_grids_are_written_first_at_the_interval_and_once_at_the_end(tmp_path: Path) -> None:
    run(tmp_path, SampleGrid(every_n_steps=4))
    assert names(tmp_path) == [
        *("000000_ema.png", "000000_raw.png", "000000_real.png"),
        *(f"{step:06d}_{kind}.png" for step in (4, 8, 10) for kind in ("ema", "raw")),
        "last.png",
    ]
    newest = tmp_path / "samples" / "000010_ema.png"
    assert (tmp_path / "samples" / "last.png").read_bytes() == newest.read_bytes()
    with Image.open(newest) as image:
        assert image.size == (658, 658)  # 8 columns of 16 px, five times as large


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_last_iteration_is_drawn_once_and_in_float32(
    precision: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[torch.dtype] = []

    def counted(images: Tensor, *rows: Any) -> Tensor:
        drawn.append(images.dtype)
        return image_grid(images, *rows)

    monkeypatch.setattr("forger.callbacks.sample_grid.image_grid", counted)
    run(tmp_path, SampleGrid(every_n_steps=5, raw=False), precision=precision)
    assert drawn == [torch.float32] * 4  # at 0, the real ones, at 5, at 10
    ema = ["000000_ema.png", "000000_real.png", "000005_ema.png", "000010_ema.png", "last.png"]
    assert names(tmp_path) == ema


def test_the_grid_shows_what_the_generator_makes_of_the_fixed_noise(tmp_path: Path) -> None:
    gan = make_gan()
    run(tmp_path, SampleGrid(n=270, seed=3), gan=gan)  # more than one chunk
    for kind, network in (("ema", gan.ema_generator.module), ("raw", gan.generator)):
        sampler = Sampler(network, "normal")
        expected = png_bytes(image_grid(sampler(sampler.noise(270, seed=3))))
        assert (tmp_path / "samples" / f"000010_{kind}.png").read_bytes() == expected


class Jitter(nn.Module):
    """Draws from the global random state."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.randn_like(x)


def test_training_is_equal_in_bits_with_and_without_it(tmp_path: Path) -> None:
    """Modes of submodules stay too, and networks that draw by themselves draw the same."""
    found = []
    for callbacks in ([], [SampleGrid(every_n_steps=1)]):
        seed_everything(0, verbose=False)
        generator = mlp.Generator((1, 16, 16), latent_dim=6, hidden=(16, 16))
        generator.layers.append(Jitter())
        gan = make_gan(generator=generator)
        gan.discriminator.layers.insert(2, nn.Dropout())
        gan.generator.layers[3].eval()  # frozen statistics in a network that trains
        modes: list[list[bool]] = []
        note = After(
            lambda _, modes=modes, gan=gan: modes.append([m.training for m in gan.modules()])
        )
        run(tmp_path, *callbacks, note, gan=gan)
        found.append((gan.state_dict(), torch.get_rng_state(), modes))
    assert not differences(*found)


def test_other_ranks_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SingleDeviceStrategy, "is_global_zero", property(lambda _: False))
    run(tmp_path, SampleGrid(every_n_steps=1))
    assert not (tmp_path / "samples").exists()


def test_a_full_disk_leaves_no_half_picture(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kilobytes=64) as disk:
        run(disk, SampleGrid(n=4, raw=False), batches=1)
        before = {path.name: path.read_bytes() for path in (disk / "samples").iterdir()}
        fill(disk)
        with pytest.raises(OSError, match="No space left"):
            run(disk, SampleGrid(n=4, raw=False), batches=2)
        assert {path.name: path.read_bytes() for path in (disk / "samples").iterdir()} == before


def test_trackers_get_the_grids_and_other_loggers_do_not(tmp_path: Path) -> None:
    class Plain(Logger):
        name = version = ""

        def log_metrics(self, *args: Any, **kwargs: Any) -> None: ...

        def log_hyperparams(self, *args: Any, **kwargs: Any) -> None: ...

    class Sent(Plain, Tracker):
        def log_picture(
            self, key: str, picture: Image.Image, step: int, caption: str | None = None
        ) -> None:
            assert caption is None
            with Image.open(tmp_path / "samples" / f"{step:06d}_{key[8:]}.png") as written:
                assert picture.tobytes() == written.tobytes()
            pictures.append((key, step))

    pictures: list[tuple[str, int]] = []
    run(tmp_path, SampleGrid(every_n_steps=10), logger=[Plain(), Sent()])
    grids = [("ema", 0), ("raw", 0), ("real", 0), ("ema", 10), ("raw", 10)]
    assert pictures == [(f"samples/{name}", step) for name, step in grids]


@pytest.mark.parametrize(
    ("n", "columns", "caption"), [(11, 3, "rows: cat, dog, ship"), (5, None, None), (2, None, None)]
)
def test_a_row_for_each_class_and_a_caption_that_says_so(
    n: int, columns: int | None, caption: str | None, tmp_path: Path
) -> None:
    """Classes of few images, or too many classes, share rows."""

    class Sent(Tracker):
        name = version = ""

        def log_picture(self, key: str, picture: Image.Image, step: int, told: Any = None) -> None:
            captions.append(told)

    captions: list[str | None] = []
    generator = mlp.Generator((1, 16, 16), latent_dim=6, hidden=(8, 8), num_classes=3)
    for module in generator.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)
    names = ("cat", "dog", "ship")
    gan = make_gan(generator=generator, condition=Labels(names))
    trainer: Any = SimpleNamespace(
        is_global_zero=True, default_root_dir=tmp_path, loggers=[Sent()], max_steps=0
    )
    SampleGrid(n=n, seed=3, raw=False).on_train_end(trainer, gan)
    each = columns or 1
    labels = [name for name in names for _ in range(each)][:n]
    images = gan.task.sampler(gan.generator).sample(len(labels), 3, label=labels)
    expected = png_bytes(image_grid(images, columns, names if columns else ()))
    assert (tmp_path / "samples" / "last.png").read_bytes() == expected
    assert captions == [caption]


def test_the_real_grid_shows_the_images_of_the_first_iteration_once(tmp_path: Path) -> None:
    path, checkpoint = tmp_path / "samples" / "000000_real.png", tmp_path / "x.ckpt"
    trainer = run(tmp_path, ExactResume(), SampleGrid(n=1), batches=2)
    with Image.open(path) as image:  # squares
        assert set(image.tobytes()) == {0, 255}
    trainer.save_checkpoint(checkpoint)
    path.write_bytes(b"kept")
    settings: dict[str, Any] = {"batches": 2, "ckpt_path": checkpoint, "max_epochs": 2}
    run(tmp_path, ExactResume(), SampleGrid(n=1), **settings)
    assert path.read_bytes() == b"kept"
