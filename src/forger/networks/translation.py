"""What networks from image to image share: their sides, normalisations and first weights."""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import nn

from forger.bounds import check_choice
from forger.errors import ConfigError
from forger.networks.settings import ImageShape, Normalise, init_layers

TranslatorNorm = Literal["batch", "instance", "none"]
Init = Literal["normal", "xavier"]


def translator_norm(norm: TranslatorNorm) -> Normalise:
    """Returns what normalises `(B, C, H, W)` features of a generator.

    `instance` has no gain and bias, as in CycleGAN.

    Raises:
        ConfigError: `norm` is unknown.
    """
    check_choice("model.generator.norm", norm, TranslatorNorm)
    makers: dict[str, Normalise] = {"batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d}
    return makers.get(norm, nn.Identity)


def check_same_sides(image_shape: ImageShape, source_shape: ImageShape) -> None:
    """Raises `ConfigError` unless sources have the height and width of the images."""
    if image_shape[1:] != source_shape[1:]:
        image, source = (f"{height}x{width}" for _, height, width in (image_shape, source_shape))
        raise ConfigError(
            f"model.generator: makes images as large as their sources, not {image} of {source};"
            " set data.image_size, which both are resized to"
        )


def check_sides(key: str, image_shape: ImageShape, least: int, multiple: int = 1) -> None:
    """Raises `ConfigError` unless both sides are large enough and multiples of a number.

    Args:
        key: of the setting or network that asks for it.
        image_shape: channels, height, width.
        least: smallest side.
        multiple: what divides each side, and `least`.
    """
    sides = image_shape[1:]
    if all(side >= least and side % multiple == 0 for side in sides):
        return
    below = [max(least, side // multiple * multiple) for side in sides]
    above = [max(least, -(-side // multiple) * multiple) for side in sides]
    nearest = [str(a) if a == b else f"[{a},{b}]" for a, b in (below, above)]
    rule = f" and multiples of {multiple}" if multiple > 1 else ""
    raise ConfigError(
        f"{key}: needs sides of at least {least}{rule}, not {sides[0]}x{sides[1]}; nearest:"
        f" data.image_size={'|'.join(dict.fromkeys(nearest))}"
    )


def init_weights(network: nn.Module, init: Init) -> None:
    """Draws convolutions from N(0, 0.02), or as Glorot and Bengio; gains of norms from N(1, 0.02).

    Biases are 0. Xavier's deviation is `sqrt(2 / (fan in + fan out))`.

    Raises:
        ConfigError: `init` is unknown.
    """
    check_choice("init", init, Init)
    draw = partial(nn.init.normal_, std=0.02) if init == "normal" else nn.init.xavier_normal_
    init_layers(network, draw, nn.Conv2d, nn.ConvTranspose2d)
    gain = partial(nn.init.normal_, mean=1.0, std=0.02)
    init_layers(network, gain, nn.BatchNorm2d, nn.GroupNorm)
