"""Gradient penalties: pure functions of a discriminator and tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

Discriminator = Callable[[Tensor], Tensor]
"""Images `(B, C, H, W)` to logits `(B,)`."""

Uniform = Callable[..., Tensor]
"""`uniform(batch, *shape)` draws U(0, 1) of shape `(batch, *shape)`."""


def gradient_norms(discriminator: Discriminator, images: Tensor) -> Tensor:
    """Returns the 2-norm of the discriminator's gradient at each image.

    They are `(B,)` and differentiable in the discriminator's weights; one that mixes samples
    (BatchNorm) makes them meaningless.
    """
    images = images.detach().requires_grad_(True)
    logits = discriminator(images)
    # Each logit depends on its own image alone, so the gradient of the sum holds each one's own.
    (gradients,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    norms: Tensor = torch.linalg.vector_norm(gradients.flatten(1), dim=1)
    return norms


@dataclass(frozen=True)
class Penalty(ABC):
    """A term added to the discriminator's loss: `E ||grad D(x)||^2 / 2` at some points.

    Args:
        weight: factor of the term.
        interval: the term is added to every so many updates of D with `weight * interval`, which
            keeps its mean (lazy regularisation, arXiv:1912.04958, section 3.1).
    """

    weight: float
    interval: int = 1

    on_fakes: ClassVar[bool] = False
    """Whether images are judged by what the fake ones were made of, else by that of real ones."""

    @abstractmethod
    def points(self, real: Tensor, fake: Tensor, uniform: Uniform) -> Tensor:
        """Returns the images at which D's gradient is penalised; all are `(B, C, H, W)`."""

    def term(self, norms: Tensor) -> Tensor:
        """Returns the unweighted term, a scalar, of the gradient's norms `(B,)`."""
        return norms.square().mean() / 2

    def __call__(
        self, discriminator: Discriminator, real: Tensor, fake: Tensor, uniform: Uniform
    ) -> Tensor:
        """Returns the unweighted term, a scalar; `real` and `fake` are `(B, C, H, W)`."""
        return self.term(gradient_norms(discriminator, self.points(real, fake, uniform)))


class R1(Penalty):
    """`E ||grad D(x)||^2 / 2` on real images (arXiv:1801.04406, eq. 9); the weight is gamma."""

    def points(self, real: Tensor, fake: Tensor, uniform: Uniform) -> Tensor:
        return real


class R2(Penalty):
    """`E ||grad D(G(z))||^2 / 2` on fake images (arXiv:1801.04406, section 4.1)."""

    on_fakes: ClassVar[bool] = True

    def points(self, real: Tensor, fake: Tensor, uniform: Uniform) -> Tensor:
        return fake


class SlopeOfOne(Penalty):
    """`E (||grad D(x)|| - 1)^2` at some points."""

    def term(self, norms: Tensor) -> Tensor:
        return (norms - 1).square().mean()


class Interpolates(SlopeOfOne):
    """`E (||grad D(x^)|| - 1)^2` between real and fake images (WGAN-GP, arXiv:1704.00028, eq. 3).

    `x^ = eps x + (1 - eps) G(z)`, with one `eps ~ U(0, 1)` per sample.
    """

    def points(self, real: Tensor, fake: Tensor, uniform: Uniform) -> Tensor:
        epsilon = uniform(len(real), 1, 1, 1)
        return torch.lerp(fake, real, epsilon.to(real.dtype))


class AroundReal(SlopeOfOne):
    """`E (||grad D(x + delta)|| - 1)^2` around real images (DRAGAN, arXiv:1705.07215).

    `delta = alpha std(x) / 2 u`, with `alpha ~ U(0, 1)` per sample, `u ~ U(0, 1)` per pixel and
    the standard deviation over the whole batch: the authors' code, where the paper writes Gaussian
    noise.
    """

    def points(self, real: Tensor, fake: Tensor, uniform: Uniform) -> Tensor:
        alpha = uniform(len(real), 1, 1, 1)
        u = uniform(len(real), *real.shape[1:])
        return (real + alpha * real.std() / 2 * u).to(real.dtype)


def matching_aware(
    judge: Callable[[Tensor, Tensor], Tensor], images: Tensor, embedding: Tensor, power: float
) -> Tensor:
    """Returns `E ||grad_(x, s) D(x, s)||^p` at real images with their texts (arXiv:2008.05865).

    The norm is of the gradients in image and embedding together, eq. 3 of DF-GAN. Only there D is
    made smooth: not at mismatched pairs.

    Args:
        judge: images and embeddings to logits `(B,)`.
        images: `(B, C, H, W)`.
        embedding: `(B, dim)`.
        power: p; the paper's is 6, with a weight of 2.
    """
    points = tuple(one.detach().requires_grad_(True) for one in (images, embedding))
    gradients = torch.autograd.grad(judge(*points).sum(), points, create_graph=True)
    squares = sum(one.flatten(1).square().sum(1) for one in gradients)
    assert isinstance(squares, Tensor)
    return squares.pow(power / 2).mean()
