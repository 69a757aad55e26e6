"""The settings that networks share: sizes, and normalisation with what `auto` means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from forger.bounds import PositiveInt, check_bounds, check_choice
from forger.errors import ConfigError

ImageShape = tuple[int, int, int]
"""Channels, height, width."""

Widths = PositiveInt | Sequence[PositiveInt]
"""Channels of all maps, or of those of each side from the smallest to the image's."""

Norm = Literal["auto", "batch", "layer", "instance", "spectral", "none"]
GeneratorNorm = Literal["batch", "none"]

Normalise = Callable[[int], nn.Module]
"""Makes the layer that normalises so many channels."""


def check_sizes(network: str, **sizes: int | Sequence[int]) -> None:
    """Raises `ConfigError` unless each size, or each of a sequence, is a positive integer."""
    for name, value in sizes.items():
        for size in value if isinstance(value, Sequence) else [value]:
            check_bounds(size, PositiveInt, f"model.{network}.{name}")


def check_stages(network: str, name: str, widths: Sequence[int], stages: int) -> None:
    """Raises `ConfigError` unless a list of widths has one for each side of a map."""
    if len(widths) != stages:
        raise ConfigError(
            f"model.{network}.{name}={list(widths)}: images of this size have {stages} stages;"
            f" write one number for all, or {stages} of them, the smallest map's first"
        )


def plan_sizes(image_shape: ImageShape) -> tuple[int, int]:
    """Returns the side of the smallest feature map, 4 to 7, and how often it doubles.

    Raises:
        ConfigError: images are not square, or of a side that no doubling makes.
    """
    _, height, width = image_shape
    side, doublings = height, 0
    while side > 7 and side % 2 == 0:
        side, doublings = side // 2, doublings + 1
    if height != width or not 4 <= side <= 7 or doublings == 0:
        sizes = sorted(base * 2**k for base in (4, 5, 6, 7) for k in range(1, 9))
        nearest = sorted(sorted(sizes, key=lambda size: abs(size - height))[:3])
        raise ConfigError(
            "model: this one makes square images with a side of 4, 5, 6 or 7 times a"
            f" power of two, not {height}x{width}; nearest:"
            f" data.image_size={'|'.join(map(str, nearest))}"
        )
    return side, doublings


def side_in(table: Mapping[int, object], image_shape: ImageShape, model: str) -> int:
    """Returns the side of square images; raises `ConfigError` where a table does not have it."""
    _, height, width = image_shape
    if height != width or height not in table:
        raise ConfigError(
            f"model={model}: makes square images with a side of {', '.join(map(str, table))}, not"
            f" {height}x{width}; write data.image_size=32"
        )
    return height


def resolve_norm(norm: Norm, default: Norm, gradient_penalty: bool) -> Norm:
    """Replaces `auto` and refuses BatchNorm under a gradient penalty.

    A penalty is taken per sample, and BatchNorm makes each logit depend on the whole batch;
    WGAN-GP's authors put LayerNorm in its place (arXiv:1704.00028, section 4).

    Args:
        norm: the user's choice.
        default: what the paper of the architecture uses.
        gradient_penalty: whether the loss penalises gradients per sample.
    """
    check_choice("model.discriminator.norm", norm, Norm)
    if norm == "batch" and gradient_penalty:
        raise ConfigError(
            "model.discriminator.norm=batch: this loss penalises gradients per sample, which"
            " BatchNorm mixes; allowed: auto (LayerNorm here), layer, instance, spectral, none"
        )
    if norm != "auto":
        return norm
    return "layer" if gradient_penalty and default == "batch" else default


def conv_norm(norm: Norm) -> Normalise:
    """Returns what normalises `(B, C, H, W)` features; `layer` over C, H and W of each sample."""
    makers: dict[str, Normalise] = {
        "batch": nn.BatchNorm2d,
        "layer": lambda channels: nn.GroupNorm(1, channels),
        "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True),
    }
    return makers.get(norm, nn.Identity)


def linear_norm(norm: Norm) -> Normalise:
    """Returns what normalises `(B, C)` features, given `C`; `instance` raises `ConfigError`."""
    if norm == "instance":
        raise ConfigError(
            "model.discriminator.norm=instance: an MLP has no pixels to take statistics over;"
            " allowed here: auto, batch, layer, spectral, none"
        )
    makers: dict[str, Normalise] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
    return makers.get(norm, nn.Identity)


def with_spectral_norm(norm: Norm, layer: nn.Module) -> nn.Module:
    """Divides the layer's weight by its largest singular value where `norm` is `spectral`.

    One power iteration per forward (arXiv:1802.05957, algorithm 1).
    """
    return spectral_norm(layer) if norm == "spectral" else layer


def init_layers(
    network: nn.Module, draw: Callable[[Tensor], object], *kinds: type[nn.Module]
) -> None:
    """Draws the weights of all layers of some kinds, in order; their biases become 0."""
    for module in network.modules():
        if isinstance(module, kinds):
            draw(module.weight)  # type: ignore[arg-type]
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]


def norm_layers(network: nn.Module, *kinds: type[nn.Module]) -> None:
    """Holds the largest singular value of all layers of some kinds at 1, see `with_spectral_norm`.

    Weights must have been drawn before: the norm takes them as it finds them.
    """
    for module in list(network.modules()):
        if isinstance(module, kinds):
            spectral_norm(module)
