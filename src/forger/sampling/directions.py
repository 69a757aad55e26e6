"""Finds directions in the latent space along which images change, without labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from forger.bounds import PositiveInt, check_bounds
from forger.errors import ConfigError
from forger.sampling.latent_search import draw_pool, labels_for
from forger.sampling.sampler import CHUNK, Sampler

Method = Literal["sefa", "pca"]
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)
_MOST = 4096  # numbers of an activation that are looked at


@dataclass(frozen=True)
class Directions:
    """Directions in the space of noise, or of styles, the strongest first.

    Attributes:
        vectors: `(k, dim)`, each as long as one standard deviation along it.
        of_styles: whether they are added to styles rather than to noise.
        method: how they were found.
    """

    vectors: Tensor
    of_styles: bool
    method: Method

    @torch.no_grad()
    def images(self, sampler: Sampler, amounts: Tensor, noise: Tensor, *given: Tensor) -> Tensor:
        """Generates images moved along the directions.

        Args:
            sampler: of the generator that they were found for.
            amounts: how far along each, in standard deviations, `(k,)` or `(B, k)`.
            noise: `(B, latent_dim)`.
            given: what a condition adds.

        Returns:
            `(B, C, H, W)` in [-1, 1].
        """
        offset = amounts.to(self.vectors) @ self.vectors
        generator: Any = sampler.generator
        if not self.of_styles:
            moved: Tensor = sampler(noise + offset, *given)
            return moved
        styles = generator.styles(noise, *given) + offset.view(-1, 1, offset.shape[-1])
        images: Tensor = generator.synthesize(styles)
        return images

    def sweep(
        self,
        sampler: Sampler,
        noise: Tensor,
        reach: float,
        frames: int,
        label: Tensor | None = None,
    ) -> Tensor:
        """Generates one image moved along each direction, `(k, frames, C, H, W)`.

        Args:
            sampler: of the generator.
            noise: of the image, `(latent_dim,)`.
            reach: in standard deviations, from `-reach` to `reach`.
            frames: of each direction; the middle of an odd number is the image itself.
            label: its class, `()`.
        """
        amounts = torch.linspace(-reach, reach, frames, device=noise.device)
        each = torch.eye(len(self.vectors), device=noise.device)
        rows = (each[:, None] * amounts[:, None]).flatten(0, 1)  # (k frames, k)
        given = labels_for(sampler, None if label is None else label.expand(len(rows)))
        images = self.images(sampler, rows, noise.expand(len(rows), -1), *given)
        return images.view(len(each), frames, *images.shape[1:])


@torch.no_grad()
def find_directions(sampler: Sampler, k: PositiveInt = 8, seed: int = 0) -> Directions:
    """Finds the k directions along which the generator's images change most.

    Of a generator with styles: their principal components. Else, where noise enters a linear layer
    or a convolution with weights A: the eigenvectors of `A^T A` with the largest eigenvalues (SeFa,
    arXiv:2007.06600, eq. 4). Else the principal components of what the first layer makes of noise,
    each regressed on noise (GANSpace, arXiv:2004.02546, section 2.2).

    Args:
        sampler: of the generator.
        k: how many.
        seed: of the 1,000 images whose styles or activations are looked at.

    Raises:
        ConfigError: there are fewer directions, or no noise.
    """
    check_bounds(k, PositiveInt, "directions")
    noise, label, _ = draw_pool(sampler, seed)
    given = labels_for(sampler, label)
    generator: Any = sampler.generator
    method: Method = "pca"
    if getattr(generator, "has_styles", False):
        axes, spread = _components(generator.styles(noise, *given)[:, 0])
        found = axes * spread[:, None]
    else:
        weights, activations = _first_layer(sampler, noise, given)
        if weights is None:
            found = _regressed(activations, noise)
        else:
            found, method = _components(weights, centred=False)[0], "sefa"
        found = found * noise.std()
    if k > len(found):
        raise ConfigError(f"directions={k}: the latent space has {len(found)} of them")
    return Directions(found[:k], getattr(generator, "has_styles", False), method)


def _first_layer(
    sampler: Sampler, noise: Tensor, given: tuple[Tensor, ...]
) -> tuple[Tensor | None, Tensor]:
    """Returns the weights by which noise enters the first layer, and what that makes of it.

    Weights are `(outputs, latent_dim)`; None: something else enters. Activations are `(N, F)`.
    """
    layers: list[nn.Module] = []
    seen: list[tuple[Tensor, Tensor]] = []

    def look(layer: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        layers[:] = layers or [layer]
        if layer is layers[0]:  # a copy: the next layer may work in place
            seen.append((inputs[0].flatten(1), outputs.flatten(1)[:, :_MOST].clone()))

    found = [one for one in sampler.generator.modules() if isinstance(one, _LAYERS)]
    handles = [one.register_forward_hook(look) for one in found]
    try:
        for rows in torch.arange(len(noise), device=noise.device).view(-1, CHUNK):
            sampler(noise[rows], *(one[rows] for one in given))
    finally:
        for handle in handles:
            handle.remove()
    if not layers:
        raise ConfigError("directions: the generator has no linear layer and no convolution")
    entered, activations = (torch.cat(part) for part in zip(*seen, strict=True))
    size, weight = noise.shape[1], layers[0].weight
    if not torch.equal(entered[:, :size], noise):
        return None, activations
    by_input: Any = weight if isinstance(layers[0], _TRANSPOSED) else weight.transpose(0, 1)  # type: ignore[operator]
    return by_input[:size].flatten(1).T, activations  # what stands behind noise tells the class


def _components(rows: Tensor, centred: bool = True) -> tuple[Tensor, Tensor]:
    """Returns principal axes of `(N, F)`, the strongest first, and the deviations along them."""
    apart = (rows - rows.mean(0) if centred else rows).double()
    values, vectors = torch.linalg.eigh(apart.T @ apart / len(rows))
    axes = vectors.flip(1).T
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))  # tells one of two signs
    return (axes * largest.sign()).float(), values.flip(0).clamp_min(0).sqrt().float()


def _regressed(activations: Tensor, noise: Tensor) -> Tensor:
    """Returns directions of noise, of length 1, along which principal components rise."""
    axes, spread = _components(activations)
    axes = axes[: noise.shape[1]][spread[: noise.shape[1]] > 1e-6 * spread[0]]
    places = (activations - activations.mean(0)) @ axes.T
    centred = noise - noise.mean(0)
    found: Tensor = torch.linalg.lstsq(places.double(), centred.double()).solution.float()
    lengths: Tensor = found.norm(dim=1, keepdim=True)
    return found / lengths.clamp_min(1e-12)
