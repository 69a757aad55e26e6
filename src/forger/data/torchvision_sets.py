"""MNIST, Fashion-MNIST and CIFAR-10. Owns where their files lie, their check, and reading them.

torchvision downloads and verifies; a download lands in a folder of its own and only whole files are
moved to where they belong, so that a broken one is never taken for data.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from torchvision import datasets
from torchvision.datasets.mnist import read_image_file, read_label_file

from forger.bounds import NonNegativeInt, PositiveInt
from forger.data.checks import gzip_fault, idx_fault, md5_fault
from forger.data.download import download, unavailable
from forger.data.module import ImageDataModule, Pixels, Residence, Split, check_flag
from forger.errors import DataError

# md5 of the decompressed files, as published with the data set.
MNIST_SUMS = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
FASHION_SHAPES: dict[str, tuple[int, ...]] = {
    "train-images-idx3-ubyte": (60_000, 28, 28),
    "train-labels-idx1-ubyte": (60_000,),
    "t10k-images-idx3-ubyte": (10_000, 28, 28),
    "t10k-labels-idx1-ubyte": (10_000,),
}


class TorchvisionSet(ImageDataModule):
    """What the data sets from torchvision share: find, check and, if allowed, download the files.

    Args:
        root: folder that holds, or will hold, the data set's own folder. Nothing in it changes
            unless files are missing and `download` is true.
        download: fetch what is missing.
        image_size: side of the square images in pixels; None keeps their own size.
        batch_size: images per batch of all processes together.
        flip: mirror each training image with probability 1/2.
        seed: of the order of the images and of the flips.
        device: where the training images stay, as in `ImageDataModule`.

    Raises:
        ConfigError: a value is out of range.
        DataError: files are damaged, or missing and not to be had.
    """

    dataset: ClassVar[type[datasets.VisionDataset[Any]]]
    folder: ClassVar[str]  # below the root
    files: ClassVar[tuple[str, ...]]  # in the folder

    def __init__(
        self,
        *,
        root: str | Path,
        download: bool = True,
        image_size: PositiveInt | None = None,
        batch_size: PositiveInt = 64,
        flip: bool = False,
        seed: NonNegativeInt = 0,
        device: Residence = "auto",
    ) -> None:
        super().__init__(
            image_size=image_size, batch_size=batch_size, flip=flip, seed=seed, device=device
        )
        check_flag(download, "data.download")
        self.root = Path(root).expanduser()
        self.download = download
        self._verified: set[str] = set()

    @abstractmethod
    def fault(self, path: Path) -> str | None:
        """Says in a few words what is wrong with an existing file, or None."""

    def prepare_data(self) -> None:
        """Checks every file that is there and downloads those that are missing."""
        missing = [name for name in self.files if not self._verify(name)]
        if missing and not self.download:
            raise self._unavailable(f"{', '.join(missing)} missing, and data.download=false")
        if missing:
            download(self.dataset, self.root, self.folder, self.files, self.fault)

    def _verify(self, name: str) -> bool:
        """Checks the file if it is there; returns whether it is."""
        path = self.root / self.folder / name
        try:
            if path.is_symlink() and not path.exists():
                raise DataError(f"{path}: is a link to {path.readlink()}, which is not there")
            if not path.exists():
                return False
            if not path.is_file():
                raise DataError(f"{path}: is not a file. Move it away to download the file")
            fault = None if name in self._verified else self.fault(path)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
        if fault is not None:
            raise DataError(f"{path}: {fault}. Delete it to download it again")
        self._verified.add(name)
        return True

    def _verified_file(self, name: str) -> Path:
        if not self._verify(name):
            raise self._unavailable(f"{name} is missing")
        return self.root / self.folder / name

    def _unavailable(self, reason: str) -> DataError:
        return unavailable(self.dataset.__name__, self.root, self.folder, self.files, reason)


class MNIST(TorchvisionSet):
    """Handwritten digits, 60,000 for training and 10,000 for tests, `(1, 28, 28)`.

    Reads the four uncompressed files in `root/MNIST/raw`, each checked against its md5 sum.
    LeCun, Bottou, Bengio and Haffner (1998). Arguments and errors: see `TorchvisionSet`.
    """

    dataset = datasets.MNIST
    folder = "MNIST/raw"
    files = tuple(MNIST_SUMS)
    native_shape = (1, 28, 28)
    classes = tuple("0123456789")
    min_accuracy = 0.99
    scores_by_default = True

    def fault(self, path: Path) -> str | None:
        """Compares the md5 sum of the file."""
        return md5_fault(path, MNIST_SUMS[path.name])

    def read(self, split: Split) -> Pixels:
        """Reads the images and labels of one split."""
        prefix = "train" if split == "train" else "t10k"
        images = read_image_file(str(self._verified_file(f"{prefix}-images-idx3-ubyte")))
        labels = read_label_file(str(self._verified_file(f"{prefix}-labels-idx1-ubyte")))
        return images.unsqueeze(1), labels


class FashionMNIST(MNIST):
    """Pictures of clothing in the format of MNIST, 60,000 and 10,000, `(1, 28, 28)`.

    Reads the four uncompressed files in `root/FashionMNIST/raw`. Their sums are published for the
    compressed files only: where the `.gz` lies beside a file, its sum is checked and the contents
    are compared; elsewhere magic number, dimensions and size must fit. Xiao, Rasul and Vollgraf
    (arXiv 1708.07747). Arguments and errors: see `TorchvisionSet`.
    """

    dataset = datasets.FashionMNIST
    folder = "FashionMNIST/raw"
    classes = tuple(datasets.FashionMNIST.classes)
    min_accuracy = 0.9

    def fault(self, path: Path) -> str | None:
        """Checks the header and size and, where it is there, the compressed file."""
        sums = dict(datasets.FashionMNIST.resources)
        packed = path.with_name(f"{path.name}.gz")
        return idx_fault(path, FASHION_SHAPES[path.name]) or (
            gzip_fault(path, packed, sums[packed.name]) if packed.is_file() else None
        )


class CIFAR10(TorchvisionSet):
    """Small photographs, 50,000 for training and 10,000 for tests, `(3, 32, 32)`.

    Reads `root/cifar-10-batches-py`, each file checked against the md5 sum that torchvision knows.
    Krizhevsky (2009). Arguments and errors: see `TorchvisionSet`.
    """

    dataset = datasets.CIFAR10
    folder = datasets.CIFAR10.base_folder
    files = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
    native_shape = (3, 32, 32)
    classes = (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )
    min_accuracy = 0.7  # a small network reaches nearly 0.8

    def fault(self, path: Path) -> str | None:
        """Compares the md5 sum of the file."""
        known = datasets.CIFAR10
        sums = dict([*known.train_list, *known.test_list])
        return md5_fault(path, {**sums, known.meta["filename"]: known.meta["md5"]}[path.name])

    def read(self, split: Split) -> Pixels:
        """Reads the images and labels of one split."""
        for name in self.files:
            self._verified_file(name)
        with warnings.catch_warnings():
            # NumPy 2.4 warns of the published pickles, which an old NumPy wrote (numpy#29301).
            warnings.filterwarnings("ignore", message=r"dtype\(\): align should be passed")
            source = datasets.CIFAR10(self.root, train=split == "train")
        images = torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous()
        return images, torch.tensor(source.targets, dtype=torch.int64)
