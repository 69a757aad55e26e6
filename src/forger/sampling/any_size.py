"""Images of any size for networks that take some sizes alone: larger by reflection, cut back."""

from __future__ import annotations

from torch import Tensor, arange, nn


def fitting_sides(network: nn.Module, height: int, width: int) -> tuple[int, int]:
    """Returns the next larger sides that a network takes."""
    multiple, least = side_rules(network)
    fitting = (-(-max(side, least) // multiple) * multiple for side in (height, width))
    return next(fitting), next(fitting)


def side_rules(network: nn.Module) -> tuple[int, int]:
    """Returns what divides each side that a network takes, and the smallest side.

    It or a part of it says so by attributes, `side_multiple` and `smallest_side`.
    """
    multiple, least = (
        max(int(getattr(part, name, 1)) for part in network.modules())
        for name in ("side_multiple", "smallest_side")
    )
    return multiple, least


def reflected(images: Tensor, height: int, width: int) -> Tensor:
    """Goes on with images `(N, C, H, W)` below and to the right, as mirrors there would."""
    rows, columns = images.shape[2:]
    below = images[:, :, _mirrored(rows, height, images)]
    return below[..., _mirrored(columns, width, images)]


def _mirrored(side: int, wanted: int, images: Tensor) -> Tensor:
    """Returns places 0 ... side - 1 ... 0 ..., `(wanted,)`; the last pixel is not repeated."""
    period = max(1, 2 * (side - 1))
    places = arange(wanted, device=images.device) % period
    return places.minimum(period - places) if side > 1 else places
