"""MNIST, Fashion-MNIST and CIFAR-10, each file verified before it is read.

torchvision downloads into a folder of its own, and only whole files are moved to where they belong,
so that a broken one is never taken for data.
"""

from __future__ import annotations

import gzip
import io
import logging
import math
import struct
import warnings
from contextlib import redirect_stderr, redirect_stdout
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchvision import datasets
from torchvision.datasets.mnist import read_image_file, read_label_file
from torchvision.datasets.utils import calculate_md5

from forger.bounds import NonNegativeInt, PositiveInt
from forger.data.module import ImageDataModule, Residence, Split
from forger.errors import DataError
from forger.whole_files import remove_leftovers

log = logging.getLogger(__name__)


class TorchvisionSet(ImageDataModule):
    """What the data sets from torchvision share: find, check and, if allowed, download the files.

    Args:
        root: folder that holds, or will hold, the data set's own folder. Nothing in it changes
            unless files are missing and `download` is true.
        download: fetch what is missing.
        image_size, batch_size, flip, seed, device, train_limit: as in `ImageDataModule`.

    Raises:
        ConfigError: a value is out of range.
        DataError: files are damaged, or missing and not to be had.
    """

    dataset: ClassVar[type[datasets.VisionDataset[Any]]]
    folder: ClassVar[str]  # below the root
    sums: ClassVar[dict[str, str]]  # md5 of each file in the folder

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
        train_limit: PositiveInt | None = None,
    ) -> None:
        super().__init__(
            image_size=image_size,
            batch_size=batch_size,
            flip=flip,
            seed=seed,
            device=device,
            train_limit=train_limit,
        )
        self.root, self.download = Path(root).expanduser(), download
        self._verified: set[str] = set()

    def fault(self, path: Path) -> str | None:
        """Says in a few words what is wrong with an existing file, or None."""
        return _md5_fault(path, self.sums[path.name])

    def prepare_data(self) -> None:
        """Checks every file that is there and downloads those that are missing."""
        if self.download and self._missing():
            try:
                self._download()
            except (OSError, RuntimeError, HTTPException) as error:  # URLError is an OSError
                reason = (str(error).strip() or repr(error)).splitlines()[-1]
                raise self._unavailable(f"the download failed ({reason})") from None
        self.verified_folder()

    def verified_folder(self) -> Path:
        """Returns the folder of the files, all of which have been checked.

        Raises:
            DataError: one is missing or damaged.
        """
        if missing := self._missing():
            but = "" if self.download else ", and data.download=false"
            raise self._unavailable(f"{', '.join(missing)} missing{but}")
        return self.root / self.folder

    def _missing(self) -> list[str]:
        """Checks the files that are there; returns those that are not."""
        missing = []
        for name in self.sums:
            path = self.root / self.folder / name
            try:
                if not path.is_symlink() and not path.exists():
                    missing.append(name)
                elif name not in self._verified and (fault := self.fault(path)):
                    raise DataError(f"{path}: {fault}. Delete it to download it again")
            except OSError as error:
                raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
        self._verified = self.sums.keys() - missing
        return missing

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
            for file in self.sums:
                if fault := self.fault(downloaded / file):
                    raise RuntimeError(f"{file}: {fault}")
            home.mkdir(parents=True, exist_ok=True)
            for source in downloaded.iterdir():
                if not (home / source.name).exists():
                    source.replace(home / source.name)

    def _unavailable(self, reason: str) -> DataError:
        return DataError(
            f"{self.dataset.__name__} is not available in {self.root / self.folder}: {reason}\n"
            f"  expected there: {', '.join(self.sums)}\n"
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
    sums: ClassVar[dict[str, str]] = {  # of the decompressed files, as published with them
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }
    native_shape = (1, 28, 28)
    classes = tuple("0123456789")
    min_accuracy = 0.99
    scores_by_default = True

    def read(self, split: Split) -> dict[str, Tensor]:
        """Reads the images and labels of one split."""
        prefix = "train" if split == "train" else "t10k"
        beginning = f"{self.verified_folder()}/{prefix}"
        images = read_image_file(f"{beginning}-images-idx3-ubyte").unsqueeze(1)
        return {"image": images, "label": read_label_file(f"{beginning}-labels-idx1-ubyte")}


class FashionMNIST(MNIST):
    """Pictures of clothing in the format of MNIST, 60,000 and 10,000, `(1, 28, 28)`.

    Reads the four uncompressed files in `root/FashionMNIST/raw`. Their sums are published for the
    compressed files only: where the `.gz` lies beside a file, its sum is checked and the contents
    are compared; elsewhere magic number, dimensions and size must fit. Xiao, Rasul and Vollgraf
    (arXiv 1708.07747). Arguments and errors: see `TorchvisionSet`.
    """

    dataset = datasets.FashionMNIST
    folder = "FashionMNIST/raw"
    shapes: ClassVar[dict[str, tuple[int, ...]]] = {
        "train-images-idx3-ubyte": (60_000, 28, 28),
        "train-labels-idx1-ubyte": (60_000,),
        "t10k-images-idx3-ubyte": (10_000, 28, 28),
        "t10k-labels-idx1-ubyte": (10_000,),
    }
    classes = tuple(datasets.FashionMNIST.classes)
    min_accuracy = 0.9

    def fault(self, path: Path) -> str | None:
        """Checks the header and size and, where it is there, the compressed file."""
        shape, content = self.shapes[path.name], path.read_bytes()
        # 0, 0, 8 (unsigned bytes), the number of dimensions, each as a big-endian 32-bit number
        header = struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape)
        if not content.startswith(header) or len(content) != len(header) + math.prod(shape):
            return f"is not a file of {math.prod(shape):,} unsigned bytes of shape {shape}"
        packed = path.with_name(f"{path.name}.gz")
        if not packed.is_file():
            return None
        if fault := _md5_fault(packed, dict(datasets.FashionMNIST.resources)[packed.name]):
            return f"cannot be verified, since {packed.name} beside it is {fault}; delete that too"
        same = gzip.decompress(packed.read_bytes()) == content
        return None if same else f"differs from what is in {packed.name} beside it"


class CIFAR10(TorchvisionSet):
    """Small photographs, 50,000 for training and 10,000 for tests, `(3, 32, 32)`.

    Reads `root/cifar-10-batches-py`, each file checked against the md5 sum that torchvision knows.
    Krizhevsky (2009). Arguments and errors: see `TorchvisionSet`.
    """

    dataset = datasets.CIFAR10
    folder = datasets.CIFAR10.base_folder
    sums: ClassVar[dict[str, str]] = {
        **dict((*datasets.CIFAR10.train_list, *datasets.CIFAR10.test_list)),
        datasets.CIFAR10.meta["filename"]: datasets.CIFAR10.meta["md5"],
    }
    native_shape = (3, 32, 32)
    classes = (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )
    min_accuracy = 0.7  # a small network reaches nearly 0.8

    def read(self, split: Split) -> dict[str, Tensor]:
        """Reads the images and labels of one split."""
        self.verified_folder()
        with warnings.catch_warnings():
            # NumPy 2.4 warns of the published pickles, which an old NumPy wrote (numpy#29301).
            warnings.filterwarnings("ignore", message=r"dtype\(\): align should be passed")
            source = datasets.CIFAR10(self.root, train=split == "train")
        images = torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous()
        return {"image": images, "label": torch.tensor(source.targets, dtype=torch.int64)}


def _md5_fault(path: Path, expected: str) -> str | None:
    found = calculate_md5(path)
    if found == expected:
        return None
    return f"damaged or incomplete ({path.stat().st_size:,} bytes, md5 {found}, not {expected})"
