"""BigGAN's generator and discriminator (arXiv:1809.11096), for images of several sides.

Spectral norm holds every layer of both at 1, noise and class reach every block of the generator,
and maps of 64x64 pixels attend to themselves. The paper's orthogonal regularisation is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu
from typing_extensions import override

from forger.bounds import PositiveInt, check_choice
from forger.errors import ConfigError
from forger.networks.conditional import (
    ClassBatchNorm,
    ClassHead,
    Head,
    Logits,
    VectorBatchNorm,
    batch_norm,
)
from forger.networks.resnet import DownBlock, UpBlock
from forger.networks.settings import (
    ImageShape,
    check_sizes,
    init_layers,
    norm_layers,
    side_in,
)

Init = Literal["orthogonal", "normal"]
"""How weights begin: orthogonal (the paper), or N(0, 0.02) (its author's script for CIFAR)."""

# Image side: the side of the smallest map, and the generator's channels from there to the image,
# in multiples of the width; appendix B of the paper, smaller sides from its author's code.
_GENERATORS: dict[int, tuple[int, Sequence[int]]] = {
    28: (7, (4, 4, 4)),  # not published: the table of 32 with one block less
    32: (4, (4, 4, 4, 4)),
    64: (4, (16, 16, 8, 4, 2)),
    128: (4, (16, 16, 8, 4, 2, 1)),
}
# Image side: channels after each block of the discriminator, and how many blocks halve the map.
_DISCRIMINATORS: dict[int, tuple[Sequence[int], int]] = {
    28: ((4, 4, 4, 4), 2),
    32: ((4, 4, 4, 4), 2),
    64: ((1, 2, 4, 8, 16), 4),
    128: ((1, 2, 4, 8, 16, 16), 5),
}
_ATTENTION_SIDE = 64  # of the maps that attend to themselves, as published


class SelfAttention(nn.Module):
    """Adds to each pixel of `(B, C, H, W)` what it finds in all of them (arXiv:1805.08318).

    `x + gamma * output(sum_k softmax_k(query . key_k) value_k)`, with C/8 channels of query and key
    and C/2 of value, over the maxima of 2x2 pixels of both; gamma starts at 0.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner, outer = max(1, channels // 8), max(1, channels // 2)
        convolution = partial(nn.Conv2d, kernel_size=1, bias=False)
        self.query, self.key = convolution(channels, inner), convolution(channels, inner)
        self.value, self.output = convolution(channels, outer), convolution(outer, channels)
        self.gamma = nn.Parameter(torch.zeros(()))

    @override
    def forward(self, features: Tensor) -> Tensor:
        # Written out: the fused kernel has no second derivative, which penalties need.
        query = self.query(features).flatten(2)  # (B, C/8, HW)
        key, value = (max_pool2d(one(features), 2).flatten(2) for one in (self.key, self.value))
        shares = torch.einsum("bcq,bck->bqk", query, key).softmax(2)  # (B, HW, HW/4)
        seen = torch.einsum("bck,bqk->bcq", value, shares)
        maps = seen.view(*seen.shape[:2], *features.shape[2:])
        total: Tensor = features + self.gamma * self.output(maps)
        return total


def _attention(side: int, channels: int) -> nn.Module:
    return SelfAttention(channels) if side == _ATTENTION_SIDE else nn.Identity()


class Generator(nn.Module):
    """Noise `(B, latent_dim)` and labels `(B,)` to images `(B, C, H, W)` in [-1, 1].

    A linear layer to the smallest map, residual blocks that double it, BatchNorm, ReLU, conv3 and
    tanh. With `skip_noise` the noise is cut into chunks, one for the linear layer and one for each
    block; the BatchNorms of blocks have gains `1 + A c` and biases `B c` of `c = [class, chunk]`.

    70,433,988 parameters for 3x128x128 with 1,000 classes; 4,304,387 for 3x32x32 with 10 classes,
    `latent_dim` 128, no `class_dim` and no `skip_noise`: both as published.

    Args:
        image_shape: channels, height, width; a side is 28, 32, 64 or 128.
        latent_dim: size of the noise; what chunks leave over goes to the linear layer.
        width: of which all channels are multiples; `None`: 64 for sides up to 32, else 96.
        class_dim: size of the class embedding that all blocks share; `None`: each BatchNorm has a
            gain and a bias of its own for each class. Without classes it means nothing.
        skip_noise: whether each block is given a chunk of the noise.
        init: how weights begin.
        num_classes: 0: there are no classes.

    Raises:
        ConfigError: there is no table for the image's side, an argument is not allowed, the noise
            is too small for its chunks, or blocks have no way to be given noise.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        latent_dim: PositiveInt = 120,
        width: PositiveInt | None = None,
        class_dim: PositiveInt | None = 128,
        skip_noise: bool = True,
        init: Init = "orthogonal",
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        sizes = {"latent_dim": latent_dim, "width": width, "class_dim": class_dim}
        check_sizes("generator", **{name: size for name, size in sizes.items() if size is not None})
        check_choice("model.generator.init", init, Init)
        self.image_shape, self.latent_dim = image_shape, latent_dim
        side, multiples = _GENERATORS[side_in(_GENERATORS, image_shape, "biggan")]
        channels = [_width(image_shape, width) * multiple for multiple in multiples]
        shared = class_dim if num_classes else None
        self.embedding = nn.Embedding(num_classes, shared) if shared else None
        self.chunks = _chunks(latent_dim, len(channels) - 1 if skip_noise else 0)
        given = (shared or 0) + sum(self.chunks[1:2])  # numbers that each block is given
        if given and num_classes and not shared:
            raise ConfigError(
                "model.generator.class_dim=null: leaves BatchNorm no place for noise beside its"
                " classes; write class_dim=128, or model.generator.skip_noise=false"
            )
        norm: Callable[[int], nn.Module] = partial(VectorBatchNorm, inputs=given)
        if not given:
            norm = partial(batch_norm, nn.BatchNorm2d, num_classes=num_classes)
        self.map_shape = (channels[0], side, side)
        self.linear = nn.Linear(self.chunks[0], math.prod(self.map_shape))
        self.blocks = nn.ModuleList(UpBlock(*pair, norm) for pair in pairwise(channels))
        sides = [side * 2**depth for depth in range(1, len(channels))]
        self.attentions = nn.ModuleList(map(_attention, sides, channels[1:]))
        self.norm = nn.BatchNorm2d(channels[-1])
        self.image = nn.Conv2d(channels[-1], image_shape[0], 3, padding=1)
        _draw_weights(self, init)
        norm_layers(self, nn.Conv2d, nn.Linear)
        self.to(memory_format=torch.channels_last)

    @override
    def forward(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        first, *others = torch.split(noise, self.chunks, 1)
        features = self.linear(first).unflatten(1, self.map_shape)
        features = features.contiguous(memory_format=torch.channels_last)
        shared = [] if self.embedding is None else [self.embedding(label).to(noise.dtype)]
        for depth, (block, attend) in enumerate(zip(self.blocks, self.attentions, strict=True)):
            parts = [*shared, *others[depth : depth + 1]]
            features = attend(block(features, torch.cat(parts, 1) if parts else label))
        images: Tensor = self.image(relu(self.norm(features))).tanh()
        return images


class Discriminator(nn.Module):
    """Images `(B, C, H, W)` and labels `(B,)` to logits `(B,)`; positive means real.

    Residual blocks that halve the map, then a plain one or two, ReLU, a sum over all pixels and a
    linear layer; no normalisation of features. 87,982,370 parameters for 3x128x128 with 1,000
    classes, 4,207,361 for 3x32x32 with 10: as published.

    Args:
        image_shape: channels, height, width; a side is 28, 32, 64 or 128.
        width: of which all channels are multiples; `None`: 64 for sides up to 32, else 96.
        init: how weights begin.
        num_classes: 0: there are no classes.
        head: how it judges classes, see `ClassHead`.

    Raises:
        ConfigError: there is no table for the image's side, or an argument is not allowed.
    """

    independent_samples = True

    def __init__(
        self,
        image_shape: ImageShape,
        width: PositiveInt | None = None,
        init: Init = "orthogonal",
        num_classes: int = 0,
        head: Head = "projection",
    ) -> None:
        super().__init__()
        check_sizes("discriminator", width=1 if width is None else width)
        check_choice("model.discriminator.init", init, Init)
        self.image_shape = image_shape
        side = side_in(_DISCRIMINATORS, image_shape, "biggan")
        multiples, halvings = _DISCRIMINATORS[side]
        base = _width(image_shape, width)
        channels = [image_shape[0], *(base * multiple for multiple in multiples)]
        layers: list[nn.Module] = []
        for depth, pair in enumerate(pairwise(channels)):
            place = {"halves": depth < halvings, "first": depth == 0}
            side //= 1 + place["halves"]
            layers += [DownBlock(*pair, **place, wide=True), _attention(side, pair[1])]
        self.blocks = nn.Sequential(*layers)
        self.logit = nn.Linear(channels[-1], 1)
        self.class_head = ClassHead(channels[-1], num_classes, head, spectral=False)
        _draw_weights(self, init)
        norm_layers(self, nn.Conv2d, nn.Linear, nn.Embedding)
        self.to(memory_format=torch.channels_last)

    @override
    def forward(self, images: Tensor, label: Tensor | None = None) -> Logits:
        features = relu(self.blocks(images)).sum((2, 3))
        judged: Logits = self.class_head(self.logit(features).squeeze(1), features, label)
        return judged


def _width(image_shape: ImageShape, width: int | None) -> int:
    return width or (64 if image_shape[1] <= 32 else 96)


def _chunks(latent_dim: int, blocks: int) -> list[int]:
    """Returns the sizes of the chunks of noise for the linear layer and for so many blocks."""
    each = latent_dim // (blocks + 1)
    if not each:
        raise ConfigError(
            f"model.generator.latent_dim={latent_dim}: is cut into {blocks + 1} chunks; write"
            f" model.generator.latent_dim={blocks + 1} or more, or model.generator.skip_noise=false"
        )
    return [latent_dim - blocks * each, *[each] * blocks]


def _draw_weights(network: nn.Module, init: Init) -> None:
    """Draws all weights; those of gains for each class stand beside 1."""
    normal: Callable[[Tensor], object] = partial(nn.init.normal_, std=0.02)
    draw = nn.init.orthogonal_ if init == "orthogonal" else normal
    init_layers(network, draw, nn.Conv2d, nn.Linear, nn.Embedding)
    for module in network.modules():
        if isinstance(module, ClassBatchNorm):
            with torch.no_grad():
                module.gain.weight.add_(1)
