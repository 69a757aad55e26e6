"""StackGAN-v2 (arXiv:1710.10916): images of a text in stages, each of twice the side of the last.

Each network is given the embedding of a text. `task=stages` judges all of them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from forger.bounds import PositiveInt
from forger.errors import ConfigError
from forger.networks.settings import (
    ImageShape,
    Norm,
    Normalise,
    check_sizes,
    conv_norm,
    init_layers,
    norm_layers,
    plan_sizes,
    resolve_norm,
)

_SLOPE = 0.2  # of LeakyReLU
_RESIDUAL = 2  # residual blocks of a stage
_MOST = 8  # times its width that the last map of D has channels


class Residual(nn.Module):
    """conv3 twice, the first with a gated linear unit, beside the features themselves."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.layers = nn.Sequential(*_gated(channels, channels), last, nn.BatchNorm2d(channels))

    @override
    def forward(self, features: Tensor) -> Tensor:
        changed: Tensor = self.layers(features)
        return features + changed


class Generator(nn.Module):
    """Noise `(B, latent_dim)` and text embeddings `(B, text_dim)` to images in [-1, 1].

    The embedding becomes the mean and log-variance of a normal code (conditioning augmentation);
    noise and code become a smallest map, which doubles up to the first stage's side. A further
    stage joins features and code and doubles them once more. conv3 and tanh make each stage's
    image.

    Args:
        image_shape: channels, height, width of the last stage's images.
        latent_dim: size of the noise.
        code_dim: size of the code of a text.
        width: channels of the first stage's last map; a further stage has half as many.
        stages: how many there are.
        text_dim: size of a text's embedding.

    Attributes:
        stage_sides: of the images of all stages, the smallest first.
        extra_noise: how many numbers N(0, 1) of an image `extra` holds, by which its code is drawn.

    Raises:
        ConfigError: the image's side cannot be made in so many stages, there is no text, or a size
            is not positive.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        latent_dim: PositiveInt = 100,
        code_dim: PositiveInt = 128,
        width: PositiveInt = 64,
        stages: PositiveInt = 3,
        text_dim: int = 0,
    ) -> None:
        super().__init__()
        check_sizes("generator", latent_dim=latent_dim, code_dim=code_dim, width=width)
        side, doublings, self.stage_sides = _plan("generator", image_shape, stages, text_dim)
        self.image_shape, self.latent_dim, self.extra_noise = image_shape, latent_dim, code_dim
        self.conditioner = nn.Sequential(nn.Linear(text_dim, 4 * code_dim), nn.GLU(dim=1))
        counts = [width * 2**k for k in reversed(range(doublings + 1))]
        units = 2 * counts[0] * side**2
        self.smallest = nn.Sequential(
            *(nn.Linear(latent_dim + code_dim, units, bias=False), nn.BatchNorm1d(units)),
            *(nn.GLU(dim=1), nn.Unflatten(1, (counts[0], side, side))),
        )
        self.first = nn.Sequential(*(_doubling(*pair) for pair in pairwise(counts)))
        widths = [max(1, width // 2**k) for k in range(stages)]
        self.further = nn.ModuleList(
            nn.Sequential(
                *_gated(inputs + code_dim, inputs),
                *(Residual(inputs) for _ in range(_RESIDUAL)),
                _doubling(inputs, outputs),
            )
            for inputs, outputs in pairwise(widths)
        )
        last = (nn.Conv2d(count, image_shape[0], 3, padding=1, bias=False) for count in widths)
        self.images = nn.ModuleList(last)
        _init_weights(self)

    @override
    def forward(
        self, noise: Tensor, text: Tensor, extra: Tensor | None = None, all_stages: bool = False
    ) -> Any:
        """Returns the last stage's images, or those of each, with means and log-variances of codes.

        Takes `extra` `(B, extra_noise)` in training; without it codes are their means.
        """
        mean, log_variance = self.conditioning(text)
        code = mean if extra is None else torch.addcmul(mean, (log_variance / 2).exp(), extra)
        images = self.stages(noise, code)
        return (images, mean, log_variance) if all_stages else images[-1]

    def conditioning(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the means and log-variances of the codes of texts, each `(B, code_dim)`."""
        mean, log_variance = self.conditioner(text).chunk(2, 1)
        return mean, log_variance

    def stages(self, noise: Tensor, code: Tensor) -> list[Tensor]:
        """Returns the images of all stages, the smallest first, of noise and codes."""
        features = self.smallest(torch.cat([noise.to(code.dtype), code], 1))
        maps = [self.first(features.contiguous(memory_format=torch.channels_last))]
        for layers in self.further:
            maps.append(layers(_beside(maps[-1], code)))
        return [torch.tanh(to_image(one)) for to_image, one in zip(self.images, maps, strict=True)]


class Judge(nn.Module):
    """Images of one side to two logits `(B, 2, 1, 1)`, see `Discriminator`.

    conv4 with stride 2 for each halving, which doubles the channels; where there are more than
    eight times as many as at first, conv3 takes them back to that.
    """

    def __init__(
        self, channels: int, side: int, halvings: int, width: int, text_dim: int, norm: Norm
    ) -> None:
        super().__init__()
        normalise, bias = conv_norm(norm), norm in ("spectral", "none")
        first = nn.Conv2d(channels, width, 4, 2, padding=1, bias=bias)
        layers: list[nn.Module] = [first, nn.LeakyReLU(_SLOPE, inplace=True)]
        counts = [width * 2**k for k in range(halvings)]
        for inputs, outputs in pairwise(counts):
            layers += _normalised(nn.Conv2d(inputs, outputs, 4, 2, 1, bias=bias), normalise)
        for inputs in (count for count in reversed(counts) if count > _MOST * width):
            layers += _normalised(nn.Conv2d(inputs, inputs // 2, 3, 1, 1, bias=bias), normalise)
        most = min(counts[-1], _MOST * width)
        joint = nn.Conv2d(most + text_dim, most, 3, padding=1, bias=bias)
        self.features = nn.Sequential(*layers)
        self.joint = nn.Sequential(*_normalised(joint, normalise))
        self.conditional, self.unconditional = (nn.Conv2d(most, 1, side) for _ in range(2))

    @override
    def forward(self, images: Tensor, text: Tensor) -> Tensor:
        features: Tensor = self.features(images)
        features = torch.cat([features, features[: len(text) - len(features)]])
        of_pairs = self.conditional(self.joint(_beside(features, text)))
        return torch.cat([of_pairs, self.unconditional(features)], 1)


class Discriminator(nn.Module):
    """Images `(B, C, H, W)` of any stage and text embeddings `(B, text_dim)` to two logits each.

    Of logits `(B, 2, 1, 1)` the first judges image and text together, the second the image alone.
    There is a `Judge` for each stage. Where there are more texts, those behind are of the first
    images again.

    Args:
        image_shape: channels, height, width of the last stage's images.
        width: channels of a judge's first map.
        stages: how many there are, as the generator has.
        norm: `auto` is the paper's BatchNorm, or LayerNorm under a gradient penalty.
        gradient_penalty: whether the loss penalises gradients per sample.
        text_dim: size of a text's embedding.

    Attributes:
        stage_sides: of the images of all stages, the smallest first.

    Raises:
        ConfigError: as `Generator` does, or `norm` is refused.
    """

    takes_more_texts = True

    def __init__(
        self,
        image_shape: ImageShape,
        width: PositiveInt = 64,
        stages: PositiveInt = 3,
        norm: Norm = "auto",
        gradient_penalty: bool = False,
        text_dim: int = 0,
    ) -> None:
        super().__init__()
        check_sizes("discriminator", width=width)
        side, halvings, self.stage_sides = _plan("discriminator", image_shape, stages, text_dim)
        self.image_shape = image_shape
        self.norm = resolve_norm(norm, "batch", gradient_penalty)
        self.independent_samples = self.norm != "batch"
        self.judges = nn.ModuleList(
            Judge(image_shape[0], side, halvings + k, width, text_dim, self.norm)
            for k in range(stages)
        )
        _init_weights(self)
        if self.norm == "spectral":
            norm_layers(self, nn.Conv2d)

    @override
    def forward(self, images: Tensor, text: Tensor) -> Tensor:
        judge = self.judges[self.stage_sides.index(images.shape[-1])]
        logits: Tensor = judge(images, text)
        return logits


def _plan(
    network: str, image_shape: ImageShape, stages: int, text_dim: int
) -> tuple[int, int, tuple[int, ...]]:
    """Returns the side of the smallest map, how often it doubles to the first stage, all sides."""
    check_sizes(network, stages=stages)
    if text_dim < 1:
        raise ConfigError(
            f"model.{network}: StackGAN makes images of texts; write condition=text, with data that"
            " has captions"
        )
    side, doublings = plan_sizes(image_shape)
    if stages > doublings:
        raise ConfigError(
            f"model.{network}.stages={stages}: images of side {image_shape[1]} are made in at most"
            f" {doublings}; write model.stages={doublings}"
        )
    sides = tuple(image_shape[1] // 2**k for k in reversed(range(stages)))
    return side, doublings - stages + 1, sides


def _beside(features: Tensor, vector: Tensor) -> Tensor:
    """Returns features with the numbers of a vector as planes behind them."""
    planes = vector.to(features.dtype)[:, :, None, None]
    return torch.cat([features, planes.expand(-1, -1, *features.shape[2:])], 1)


def _gated(inputs: int, outputs: int) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, 2 * outputs, 3, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(2 * outputs), nn.GLU(dim=1)]


def _doubling(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Upsample(scale_factor=2), *_gated(inputs, outputs))


def _normalised(conv: nn.Conv2d, normalise: Normalise) -> list[nn.Module]:
    return [conv, normalise(conv.out_channels), nn.LeakyReLU(_SLOPE, inplace=True)]


def _init_weights(network: nn.Module) -> None:
    """Draws weights as the authors' code does: orthogonal ones, and gains from N(1, 0.02)."""
    init_layers(network, nn.init.orthogonal_, nn.Conv2d, nn.Linear)
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d)
    init_layers(network, lambda gain: nn.init.normal_(gain, 1.0, 0.02), *norms)
    network.to(memory_format=torch.channels_last)
