"""Checks the sizes of networks, and says which image sides the convolutional ones reach."""

from __future__ import annotations

from collections.abc import Sequence

from forger.bounds import PositiveInt, check_bounds
from forger.errors import ConfigError

ImageShape = tuple[int, int, int]
"""Channels, height, width."""


def check_sizes(network: str, **sizes: int | Sequence[int]) -> None:
    """Raises `ConfigError` unless each size, or each of a sequence, is a positive integer."""
    for name, value in sizes.items():
        for size in value if isinstance(value, Sequence) else [value]:
            check_bounds(size, PositiveInt, f"model.{network}.{name}")


def plan_sizes(image_shape: ImageShape) -> tuple[int, int]:
    """Returns the side of the smallest feature map and how often it doubles.

    Raises:
        ConfigError: no side of 4 to 7 pixels doubles up to the image's.
    """
    _, height, width = image_shape
    side, doublings = height, 0
    while side > 7 and side % 2 == 0:
        side, doublings = side // 2, doublings + 1
    if height != width or not 4 <= side <= 7 or doublings == 0:
        sizes = sorted(base * 2**k for base in (4, 5, 6, 7) for k in range(1, 9))
        nearest = sorted(sorted(sizes, key=lambda size: abs(size - height))[:3])
        raise ConfigError(
            "model=dcgan: makes square images with a side of 4, 5, 6 or 7 times a power of two,"
            f" not {height}x{width}; nearest: data.image_size={'|'.join(map(str, nearest))}"
        )
    return side, doublings


def quarter(image_shape: ImageShape) -> tuple[int, int]:
    """Returns height and width of the map that two doublings make the image of.

    Raises:
        ConfigError: a side of the image is no multiple of 4.
    """
    _, height, width = image_shape
    if height % 4 or width % 4:
        below = max(4, height // 4 * 4)
        raise ConfigError(
            f"model=subpixel: makes images with sides of 4 times a whole number, not"
            f" {height}x{width}; nearest: data.image_size={below}|{below + 4}"
        )
    return height // 4, width // 4
