"""The images that are trained on in the throughput benchmark, for the product and for the loops.

All of them see the same: what the product reads is written as an array for the others.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timed_product import TiledDigits

from forger.data import MNIST, ImageDataModule, ImageFolder

PHOTOS, SIDE, CLASSES = 20_000, 32, 10  # random ones: speed does not depend on what is in them


class TimedImages:
    """Digits and small colour images.

    Args:
        folder: for what is written.
        data_root: holds `MNIST/raw`; None: the digits of `data=mnist_sample`, tiled.
        image_folder: of colour images of 32x32 pixels; None: random ones.
    """

    def __init__(self, folder: Path, data_root: Path | None, image_folder: Path | None) -> None:
        self.folder, self.cache = folder, folder / "cache"
        self.data_root = data_root and data_root.absolute()
        self.image_folder = image_folder and image_folder.absolute()

    @cached_property
    def digits(self) -> tuple[str, list[str]]:
        """The array's path, and the product's overrides."""
        path, root = self.folder / "digits.npy", self.data_root
        if root is None:
            self._write(TiledDigits(), path)
            return str(path), ["data=mnist_sample", "data._target_=timed_product.TiledDigits"]
        self._write(MNIST(root=root, download=False), path)
        return str(path), ["data=mnist", f"data.root={root}", "data.download=false"]

    def of(self, kind: str) -> tuple[str, list[str]]:
        """Returns the array's path and the product's overrides of one kind of images."""
        if kind == "photos":
            return self.photos
        path, overrides = self.digits
        if kind == "digits":
            return path, overrides
        target = {"pairs": "timed_product.Pairs", "sides": "timed_product.Sides"}[kind]
        return path, ["data=mnist_sample", f"data._target_={target}"]

    @cached_property
    def photos(self) -> tuple[str, list[str]]:
        """The array's path, and the product's overrides."""
        path, root = self.folder / "photos.npy", self.image_folder or self._random_photos()
        same = {"image_size": SIDE, "test_fraction": 0.0}
        self._write(ImageFolder(root=root, cache_dir=self.cache, **same), path)  # type: ignore[arg-type]
        settings = {"root": root, "flip": "false", **same}
        return str(path), ["data=image_folder", *(f"data.{k}={v}" for k, v in settings.items())]

    def _random_photos(self) -> Path:
        root = self.folder / "photos"
        for name in range(CLASSES):
            (root / str(name)).mkdir(parents=True)
        pixels = torch.randint(
            256,
            (PHOTOS, SIDE, SIDE, 3),
            dtype=torch.uint8,
            generator=torch.Generator().manual_seed(0),
        )
        for number, image in enumerate(pixels.numpy()):
            path = root / str(number % CLASSES) / f"{number:05d}.png"
            Image.fromarray(image).save(path, compress_level=0)
        return root

    @staticmethod
    def _write(module: ImageDataModule, path: Path) -> None:
        module.prepare_data()
        np.save(path, module.train_images.numpy())
