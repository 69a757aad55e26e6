"""Writes small data sets in the original file formats, and makes their sums the expected ones."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from forger.data import CIFAR10, MNIST, FashionMNIST

COUNTS = {"train": 12, "t10k": 5}


def idx(array: np.ndarray) -> bytes:
    """The IDX format: 0, 0, type 8 (unsigned byte), dimensions, sizes as big-endian 32 bits."""
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def idx_files(seed: int = 0) -> dict[str, bytes]:
    """The four files: images whose first pixel is their index, labels that count 0, 1, ..."""
    rng = np.random.default_rng(seed)
    files = {}
    for prefix, count in COUNTS.items():
        images = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        images[:, 0, 0] = np.arange(count)
        files[f"{prefix}-images-idx3-ubyte"] = idx(images)
        files[f"{prefix}-labels-idx1-ubyte"] = idx((np.arange(count) % 10).astype(np.uint8))
    return files


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def expect_mnist(patch: pytest.MonkeyPatch, files: dict[str, bytes]) -> None:
    patch.setattr(MNIST, "sums", {name: md5(content) for name, content in files.items()})


def expect_fashion(patch: pytest.MonkeyPatch, files: dict[str, bytes]) -> dict[str, bytes]:
    """Returns the compressed files, of which torchvision knows the sums."""
    packed = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in files.items()}
    sums = [(name, md5(content)) for name, content in packed.items()]
    patch.setattr(datasets.FashionMNIST, "resources", sums)
    shapes = {
        f"{prefix}-{kind}": (count, *shape)
        for prefix, count in COUNTS.items()
        for kind, shape in {"images-idx3-ubyte": (28, 28), "labels-idx1-ubyte": ()}.items()
    }
    patch.setattr(FashionMNIST, "shapes", shapes)
    return packed


def cifar_files(patch: pytest.MonkeyPatch, old_numpy: bool = False) -> dict[str, bytes]:
    """CIFAR-10's pickles, three images each, whose first pixel is their index in the split."""
    # The end of a pickled dtype: what is written today, and an old form of which NumPy 2.4 warns.
    today, old = b"\x89\x88\x87", b"K\x00\x86"
    files = {}
    for batch in range(6):
        data = np.full((3, 3072), 7, dtype=np.uint8)
        data[:, 0] = np.arange(3) + 3 * batch if batch < 5 else np.arange(3)
        data[:, 1024:2048] = 8  # green
        name = f"data_batch_{batch + 1}" if batch < 5 else "test_batch"
        content = pickle.dumps({"data": data, "labels": [batch, 8, 9]}, protocol=2)
        assert today in content
        files[name] = content.replace(today, old) if old_numpy else content
    files["batches.meta"] = pickle.dumps({"label_names": list("abcdefghij")}, protocol=2)
    sums = {name: md5(content) for name, content in files.items()}
    patch.setattr(CIFAR10, "sums", sums)
    train = [[f"data_batch_{i}", sums[f"data_batch_{i}"]] for i in range(1, 6)]
    patch.setattr(datasets.CIFAR10, "train_list", train)
    patch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]}
    patch.setattr(datasets.CIFAR10, "meta", meta)
    return files
