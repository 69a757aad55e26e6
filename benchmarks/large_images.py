"""Synthetic folders for `large_folder.py`: one to be decoded, and one that was decoded already.

The second has empty files, since a run that finds the cache opens none.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from forger.array_files import array_writer
from forger.data.folder_cache import FolderCache
from forger.data.folder_listing import list_images
from forger.image_files import ImageFormat

_IN_FOLDER = 1000  # images of a class
_CHUNK = 10_000  # rows written at a time
_SIDE, _BLOCKS = 32, 8  # pixels, and squares of one colour in a row of them

Shape = tuple[int, int, int]


def write_images(root: Path, count: int) -> Path:
    """Writes PNG files of 32x32 colour pixels, about a kilobyte each, in folders of a thousand."""
    random = np.random.default_rng(0)
    for number, path in enumerate(_paths(root, count)):
        if number % _IN_FOLDER == 0:
            squares = random.integers(0, 256, (_IN_FOLDER, _BLOCKS, _BLOCKS, 3), dtype=np.uint8)
        pixels = squares[number % _IN_FOLDER].repeat(_SIDE // _BLOCKS, 0)
        Image.fromarray(pixels.repeat(_SIDE // _BLOCKS, 1)).save(path, compress_level=1)
    return root


def write_empty(root: Path, count: int) -> Path:
    """Writes empty files with the names of images, in folders of a thousand."""
    for path in _paths(root, count):
        path.touch()
    return root


def write_cache(root: Path, cache: Path, shape: Shape) -> Path:
    """Writes random images as what is decoded from a folder, and returns the file."""
    names = list_images(root, test_fraction=0.0).names
    random = np.random.default_rng(0)
    target = FolderCache(root, names, cache, ImageFormat(*shape[:2])).path
    with array_writer(target) as write:
        for begin in range(0, len(names), _CHUNK):
            count = min(_CHUNK, len(names) - begin)
            write(random.integers(0, 256, (count, *shape), dtype=np.uint8))
    return target


def _paths(root: Path, count: int) -> list[Path]:
    folders = [root / f"{number:04d}" for number in range(-(-count // _IN_FOLDER))]
    for folder in folders:
        folder.mkdir(parents=True)
    return [folders[number // _IN_FOLDER] / f"{number:07d}.png" for number in range(count)]
