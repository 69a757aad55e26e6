"""A trained generator that turns images into others: which ones a seed means, and a user's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from forger.errors import ConfigError
from forger.random_state import random_state_of
from forger.sampling.sampler import CHUNK, Sampler
from forger.seeds import Purpose, seed_for, stream

Direction = Literal["a_to_b", "b_to_a"]

_AT_ONCE = 16  # images of one pass: a user's may be large
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
    """

    sources: Tensor
    images: Tensor

    def __init__(
        self, generator: nn.Module, sources: Tensor, images: Tensor, paired: bool = False
    ) -> None:
        super().__init__(generator)
        self.paired = paired
        self.register_buffer("sources", sources.clone())
        self.register_buffer("images", images.clone())

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
        with _dropping(self.generator, dropout):
            parts = torch.split(images, _AT_ONCE)
            return torch.cat([self._translated(*part, seed) for part in enumerate(parts)])

    def reversed(self) -> Translator:
        """Returns the translator of the way back; raises `ConfigError` where there is none."""
        if not isinstance(back := getattr(self.generator, "back", None), nn.Module):
            raise ConfigError("direction=b_to_a: the run has no way back; write direction=a_to_b")
        return Translator(back, self.images, self.sources, self.paired)

    @torch.inference_mode()
    def _translated(self, number: int, images: Tensor, seed: int) -> Tensor:
        source = _scaled(images.to(self.device))
        with random_state_of(seed_for(Purpose.DRAWS_OF_GENERATOR, seed, number), self.device):
            translated: Tensor = self(source)
        return translated

    def _given(self, number: int, size: int, seed: int) -> dict[str, Tensor]:
        (sources,) = self.inputs(number, size, seed, {})
        return {"source": sources.to(self.device)}


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
