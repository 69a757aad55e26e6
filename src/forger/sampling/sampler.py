"""A trained generator to sample from: what noise a seed means."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from forger.copying import copied
from forger.noise import PRIORS, Prior
from forger.pictures import to_pixels
from forger.random_state import random_state_of
from forger.seeds import Purpose, seed_for, stream

CHUNK = 250  # images of one seeded draw, and of one pass through a network or an extractor


class Sampler(nn.Module):
    """A copy of a generator in float32 and eval mode, with the noise that it was trained on.

    Row i of a seed's noise is the same whatever the number of rows: it is drawn in chunks of 250,
    each a function of (seed, number of the chunk), on the CPU. So is what a generator draws by
    itself.

    Args:
        generator: noise `(B, latent_dim)` to images `(B, C, H, W)` in [-1, 1]; it is copied.
        prior: distribution of the noise, `normal` N(0, 1) or `uniform` U(-1, 1).
    """

    def __init__(self, generator: nn.Module, prior: Prior) -> None:
        super().__init__()
        self.generator = copied(generator).float().eval().requires_grad_(False)
        self.prior: Prior = prior
        self.latent_dim = int(generator.latent_dim)  # type: ignore[arg-type]

    def train(self, mode: bool = True) -> Sampler:
        """Stays in eval mode."""
        return super().train(False)

    def forward(self, noise: Tensor) -> Tensor:
        """Generates `(B, C, H, W)` in [-1, 1]; gradients reach `noise`, and no weight."""
        with torch.autocast(noise.device.type, enabled=False):
            images: Tensor = self.generator(noise)
        return images

    def noise(self, n: int, seed: int = 0) -> Tensor:
        """Draws the noise of the seed's first n images, `(n, latent_dim)`, on the CPU."""
        chunks = enumerate(chunk_sizes(n))
        return torch.cat([self._draw(number, size, seed) for number, size in chunks])

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """Generates the seed's first n images, `(n, C, H, W)` in [-1, 1], where the weights are."""
        chunks = enumerate(chunk_sizes(n))
        return torch.cat([self._images(number, size, seed) for number, size in chunks])

    def chunk(self, number: int, size: int = CHUNK, seed: int = 0) -> Tensor:
        """Generates the first images of one chunk as pixels, uint8 `(size, C, H, W)`."""
        return to_pixels(self._images(number, size, seed))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.generator.parameters()).device

    @torch.inference_mode()
    def _images(self, number: int, size: int, seed: int) -> Tensor:
        device, own = self.device, seed_for(Purpose.DRAWS_OF_GENERATOR, seed, number)
        with random_state_of(own, device):
            images: Tensor = self(self._draw(number, size, seed).to(device))
        return images

    def _draw(self, number: int, size: int, seed: int) -> Tensor:
        generator = stream(Purpose.SAMPLES, seed, number)
        whole = PRIORS[self.prior]((CHUNK, self.latent_dim), generator, torch.float32)
        return whole[:size]


def chunk_sizes(n: int) -> list[int]:
    """Returns the sizes of the chunks that make n images: full ones, then the rest."""
    return [min(CHUNK, n - begin) for begin in range(0, n, CHUNK)]
