"""A trained generator that turns images into others: which ones a seed means, and a user's own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from forger.errors import ConfigError
from forger.random_state import random_state_of
from forger.sampling.any_size import fitting_sides, reflected
from forger.sampling.sampler import CHUNK, Grid, Sampler, chunk_sizes
from forger.seeds import Purpose, seed_for, stream

Direction = Literal["a_to_b", "b_to_a"]

_PIXELS = 2**20  # of the images of one pass, at most: 16 of 256x256
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


class Translator(Sampler):
    """A copy of a translator in float32 and eval mode, with held-out images to show it on.

    The images of a seed are translations of those: chunk after chunk, each goes through all in an
    order of its own before one comes again.

    Args:
        generator: sources `(B, C', H, W)` to images `(B, C, H, W)`, both in [-1, 1]; it is copied.
            One that translates both ways has an attribute `back`, the network of the other way.
        sources: held out, uint8 `(N, C', H, W)`.
        images: of the other side, uint8 `(N, C, H, W)`.
        paired: whether each source should become the image beside it.

    Attributes:
        dropout: whether Dropout stays active, as pix2pix has it: other seeds give other images.
    """

    sources: Tensor
    images: Tensor

    def __init__(
        self, generator: nn.Module, sources: Tensor, images: Tensor, paired: bool = False
    ) -> None:
        super().__init__(generator)
        self.paired, self.dropout = paired, False
        self.register_buffer("sources", sources.clone())
        self.register_buffer("images", images.clone())

    def forward(self, noise: Tensor, *given: Tensor) -> Tensor:
        """Translates sources, some at a time, to `(B, C, H, W)` in [-1, 1]."""
        parts = torch.split(noise, max(1, _PIXELS // noise.shape[2:].numel()))
        with _dropping(self.generator, self.dropout):
            return torch.cat([super(Translator, self).forward(part, *given) for part in parts])

    def given(self, n: int, seed: int = 0) -> dict[str, Tensor]:
        """Returns the `source` in [-1, 1] of each of the seed's first n images."""
        drawn = [self._given(*chunk, seed)["source"] for chunk in enumerate(chunk_sizes(n))]
        return {"source": torch.cat(drawn)}

    def grid(self, n: int, seed: int = 0) -> Grid:
        """Shows what becomes of the seed's first sources, in about n images; always the same.

        Side by side stand a source, its translation, and of pairs the image that it should be; of
        a generator that translates both ways source, translation and the way round, and beside
        them the same of an image of the other side. Grey stands beside colours in three channels.
        """
        beside, count = self.beside, max(1, n // self.beside)
        shown = _alike(self._beside(count, seed))
        tiles = torch.stack(shown, dim=1).flatten(0, 1)
        across = min(count, max(1, round(math.sqrt(len(tiles)) / beside)))
        return Grid(tiles, across * beside, ())

    def rows(self, number: int, size: int = CHUNK, seed: int = 0) -> Tensor:
        """Returns which of the held-out sources the first images of a chunk are made from."""
        random, count = stream(Purpose.SAMPLES, seed, number), len(self.sources)
        orders = [torch.randperm(count, generator=random) for _ in range(-(-CHUNK // count))]
        return torch.cat(orders)[:size].to(self.sources.device)

    def inputs(
        self, number: int, size: int, seed: int, given: Mapping[str, Tensor]
    ) -> tuple[Tensor, ...]:
        """Returns the sources: those that are `given` as `source`, in [-1, 1], or the seed's."""
        if "source" in given:
            return (given["source"],)
        return (_scaled(self.sources[self.rows(number, size, seed)]),)

    def translate(
        self,
        images: Tensor,
        seed: int = 0,
        *,
        direction: Direction = "a_to_b",
        dropout: bool = False,
    ) -> Tensor:
        """Translates images of any size that the network admits.

        Args:
            images: `(N, C', H, W)`, uint8 or in [-1, 1].
            seed: of what the generator draws by itself, such as Dropout.
            direction: `a_to_b`, from source to image, or `b_to_a`, where there is a way back.
            dropout: whether Dropout stays active, as pix2pix has it: other seeds give other images.

        Returns:
            `(N, C, H, W)` in [-1, 1], where the weights are.

        Raises:
            ConfigError: there is no way back, or images have another number of channels.
        """
        if direction not in get_args(Direction):
            allowed = ", ".join(get_args(Direction))
            raise ConfigError(f"direction={direction}: must be one of {allowed}")
        if direction == "b_to_a":
            return self.reversed().translate(images, seed, dropout=dropout)
        channels = self.sources.shape[1]
        if images.ndim != 4 or images.shape[1] != channels:
            raise ConfigError(
                f"images {tuple(images.shape)}: must be (N, {channels}, H, W), as those that the"
                " run was trained on"
            )
        twin = self.dropping() if dropout else self
        return twin._translated(_scaled(images.to(self.device)), seed)

    def dropping(self) -> Translator:
        """Returns a translator whose Dropout stays active.

        Raises:
            ConfigError: the generator has none.
        """
        if not any(isinstance(module, _DROPOUTS) for module in self.generator.modules()):
            raise ConfigError("dropout=true: the run's generator has no Dropout; leave it out")
        twin = Translator(self.generator, self.sources, self.images, self.paired)
        twin.dropout = True
        return twin

    def reversed(self) -> Translator:
        """Returns the translator of the way back; raises `ConfigError` where there is none."""
        if self._back is None:
            raise ConfigError("direction=b_to_a: the run has no way back; write direction=a_to_b")
        twin = Translator(self._back, self.images, self.sources, self.paired)
        twin.dropout = self.dropout
        return twin

    @property
    def beside(self) -> int:
        """How many images a grid shows of each source, itself included."""
        return 2 + self.paired if self._back is None else 6

    @property
    def _back(self) -> nn.Module | None:
        back = getattr(self.generator, "back", None)
        return back if isinstance(back, nn.Module) else None

    @torch.inference_mode()
    def _translated(self, source: Tensor, seed: int) -> Tensor:
        """Translates images of any size: larger ones are made of them, and the results cut back."""
        height, width = source.shape[2:]
        padded = reflected(source, *fitting_sides(self.generator, height, width))
        with random_state_of(seed_for(Purpose.DRAWS_OF_GENERATOR, seed), self.device):
            images: Tensor = self(padded)
        # As much of the result as of the source: a network may enlarge.
        rows = height * images.shape[2] // padded.shape[2]
        columns = width * images.shape[3] // padded.shape[3]
        return images[..., :rows, :columns]

    def _beside(self, count: int, seed: int) -> list[Tensor]:
        """Returns what a grid shows side by side."""
        sources, made = self.given(count, seed)["source"], self.sample(count, seed)
        if self._back is not None:
            back = self.reversed()
            others, back_made = back.given(count, seed)["source"], back.sample(count, seed)
            there = self.translate(back_made, seed)
            return [sources, made, back.translate(made, seed), others, back_made, there]
        chunks = enumerate(chunk_sizes(count))
        rows = torch.cat([self.rows(*chunk, seed) for chunk in chunks])
        return [sources, made, *([_scaled(self.images[rows])] if self.paired else [])]

    def _given(self, number: int, size: int, seed: int) -> dict[str, Tensor]:
        (sources,) = self.inputs(number, size, seed, {})
        return {"source": sources.to(self.device)}


def expanded(images: Tensor, channels: int) -> Tensor:
    """Repeats the one channel of grey images `(N, 1, H, W)`; others stay as they are."""
    return images.expand(-1, channels, -1, -1) if images.shape[1] == 1 else images


def _alike(parts: Sequence[Tensor]) -> list[Tensor]:
    """Brings images to the size of the largest, and to three channels where any have them.

    Channels that are no colours are shown by their mean.
    """
    shown = [one if one.shape[1] in (1, 3) else one.mean(1, keepdim=True) for one in parts]
    channels = max(one.shape[1] for one in shown)
    size = max((tuple(one.shape[2:]) for one in shown), key=math.prod)
    same = (one if one.shape[2:] == size else interpolate(one, size) for one in shown)
    return [expanded(one, channels) for one in same]


def _scaled(images: Tensor) -> Tensor:
    """Returns images in [-1, 1], float32."""
    return images.float() / 127.5 - 1 if images.dtype == torch.uint8 else images.float()


@contextmanager
def _dropping(network: nn.Module, active: bool) -> Iterator[None]:
    """Lets layers of Dropout drop, all others stay in eval mode."""
    layers = [module for module in network.modules() if isinstance(module, _DROPOUTS)]
    for layer in layers:
        layer.training = active
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False
