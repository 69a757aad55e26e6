"""MNIST, Fashion-MNIST and CIFAR-10, each file verified before it is read.

torchvision downloads into a folder of its own, and only whole files are moved to where they belong,
so that a broken one is never taken for data.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import math
import struct
import warnings
from abc import abstractmethod
from contextlib import redirect_stderr, redirect_stdout
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, ClassVar

import torch
from torchvision import datasets
from torchvision.datasets.mnist import read_image_file, read_label_file

from forger.bounds import NonNegativeInt, PositiveInt
from forger.data.module import ImageDataModule, Pixels, Residence, Split, check_flag
from forger.errors import DataError
from forger.whole_files import remove_leftovers

log = logging.getLogger(__name__)

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
        self.root, self.download = Path(root).expanduser(), download
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
            try:
                self._download()
            except (OSError, RuntimeError, HTTPException) as error:  # URLError is an OSError
                last_line = (str(error).strip() or repr(error)).splitlines()[-1]
                reason = last_line.strip("<>").removeprefix("urlopen error ")
                raise self._unavailable(f"the download failed ({reason})") from None

    def verified_file(self, name: str) -> Path:
        """Returns a file of the data set that has been checked.

        Raises:
            DataError: it is missing or damaged.
        """
        if not self._verify(name):
            raise self._unavailable(f"{name} is missing")
        return self.root / self.folder / name

    def _verify(self, name: str) -> bool:
        """Checks the file if it is there; returns whether it is."""
        path = self.root / self.folder / name
        try:
            if path.is_symlink() and not path.exists():
                raise DataError(f"{path}: is a link to {path.readlink()}, which is not there")
            if not path.exists():
                return False
            fault = None if name in self._verified else self.fault(path)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
        if fault is not None:
            raise DataError(f"{path}: {fault}. Delete it to download it again")
        self._verified.add(name)
        return True

    def _download(self) -> None:
        """Downloads in silence; files that are already there stay as they are."""
        name, home = self.dataset.__name__, self.root / self.folder
        log.info("downloading %s to %s", name, home)
        self.root.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.root, f"{name}-download")
        with TemporaryDirectory(".tmp", f".{name}-download.", self.root) as temporary:
            downloaded = Path(temporary, self.folder)
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                self.dataset(temporary, download=True)  # type: ignore[call-arg]
            for file in self.files:
                if fault := self.fault(downloaded / file):
                    raise RuntimeError(f"{file}: {fault}")
            home.mkdir(parents=True, exist_ok=True)
            for source in downloaded.iterdir():
                if not (home / source.name).exists():
                    source.replace(home / source.name)

    def _unavailable(self, reason: str) -> DataError:
        return DataError(
            f"{self.dataset.__name__} is not available in {self.root / self.folder}: {reason}\n"
            f"  expected there: {', '.join(self.files)}\n"
            "  without a network, choose one of\n"
            "    data=mnist_sample  (5,000 real digits, no download)\n"
            f"    data.root=<folder that holds {self.folder}>\n"
            "    data=image_folder data.root=<your images>"
        )


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
        return _md5_fault(path, MNIST_SUMS[path.name])

    def read(self, split: Split) -> Pixels:
        """Reads the images and labels of one split."""
        prefix = "train" if split == "train" else "t10k"
        images = read_image_file(str(self.verified_file(f"{prefix}-images-idx3-ubyte")))
        labels = read_label_file(str(self.verified_file(f"{prefix}-labels-idx1-ubyte")))
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
        return _idx_fault(path, FASHION_SHAPES[path.name]) or (
            _gzip_fault(path, packed, sums[packed.name]) if packed.is_file() else None
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
        return _md5_fault(path, {**sums, known.meta["filename"]: known.meta["md5"]}[path.name])

    def read(self, split: Split) -> Pixels:
        """Reads the images and labels of one split."""
        for name in self.files:
            self.verified_file(name)
        with warnings.catch_warnings():
            # NumPy 2.4 warns of the published pickles, which an old NumPy wrote (numpy#29301).
            warnings.filterwarnings("ignore", message=r"dtype\(\): align should be passed")
            source = datasets.CIFAR10(self.root, train=split == "train")
        images = torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous()
        return images, torch.tensor(source.targets, dtype=torch.int64)


def _md5_fault(path: Path, expected: str) -> str | None:
    with path.open("rb") as file:
        found = _md5(file)
    if found == expected:
        return None
    return f"damaged or incomplete ({path.stat().st_size:,} bytes, md5 {found}, not {expected})"


def _idx_fault(path: Path, shape: tuple[int, ...]) -> str | None:
    """Checks an IDX file of bytes: its magic number, its dimensions and its exact size."""
    # 0, 0, 8 (unsigned bytes), the number of dimensions, and each as a big-endian 32-bit number
    expected = struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape)
    with path.open("rb") as file:
        header = file.read(len(expected))
    if header != expected:
        return f"is not a file of unsigned bytes of shape {shape}"
    size, expected_size = path.stat().st_size, len(expected) + math.prod(shape)
    return None if size == expected_size else f"has {size:,} bytes, not {expected_size:,}"


def _gzip_fault(path: Path, packed: Path, expected: str) -> str | None:
    """Checks a file against the compressed one beside it, whose md5 sum is published."""
    fault = _md5_fault(packed, expected)
    if fault is not None:
        return f"cannot be verified, because {packed.name} beside it is {fault}; delete that too"
    with gzip.open(packed) as content, path.open("rb") as file:
        same = _md5(file) == _md5(content)
    return None if same else f"differs from what is in {packed.name} beside it"


def _md5(file: IO[bytes] | gzip.GzipFile) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
