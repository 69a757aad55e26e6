"""Searches the latent space of a generator for images that a loss asks for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from forger.errors import ConfigError
from forger.sampling.sampler import Sampler

Loss = Callable[[Tensor, Tensor], Tensor]
"""Images `(R, C, H, W)` in [-1, 1] and their noise `(R, latent_dim)` to a loss of each, `(R,)`."""

Progress = Callable[[int, int], None]
"""Told how many steps are done, and of how many."""

POOL = 1_000  # random images among which a search looks for where to begin
RATE = 0.1  # of Adam, on noise whose numbers are about 1; it falls to 0 as a cosine


class Pool(NamedTuple):
    """A seed's first images, and what they are made of; `label` is None without classes."""

    noise: Tensor
    label: Tensor | None
    images: Tensor

    def at(self, rows: Tensor) -> Pool:
        """Returns some of them."""
        label = None if self.label is None else self.label[rows]
        return Pool(self.noise[rows], label, self.images[rows])


def draw_pool(sampler: Sampler, seed: int, label: Any = None, size: int = POOL) -> Pool:
    """Draws random images, of the classes that are asked for, or as often as in training.

    Raises:
        ConfigError: the generator takes no noise, or there is no such class.
    """
    if not sampler.latent_dim:
        raise ConfigError("the run's generator takes no noise, and so has no latent space")
    device, condition = sampler.device, sampler.condition
    read = condition.read({} if label is None else {"label": label}, size)
    given: dict[str, Any] = sampler.given(size, seed) | read
    images = sampler.sample(size, seed, **given)
    labels = given["label"].to(device) if "label" in given else None
    return Pool(sampler.noise(size, seed).to(device), labels, images)


def labels_for(sampler: Sampler, label: Tensor | None) -> tuple[Tensor, ...]:
    """Returns what a generator is given behind noise."""
    return () if label is None else sampler.condition.inputs({"label": label})


@torch.inference_mode(False)
@torch.enable_grad()
def descend(
    sampler: Sampler,
    start: Pool,
    loss: Loss,
    steps: int,
    on_step: Callable[[int], None],
) -> tuple[Tensor, Tensor]:
    """Follows the gradient of a loss with respect to noise, by Adam (arXiv:1412.6980).

    Each row goes its own way, whatever stands beside it. U(-1, 1) is not left.

    Args:
        sampler: of the generator.
        start: where to begin; its images are not read.
        loss: to be small.
        steps: of Adam.
        on_step: told how many are done.

    Returns:
        of each row the best noise on its way, the start included, `(R, latent_dim)`, and its loss
        `(R,)`.
    """
    noise = start.noise.clone().requires_grad_()
    given = labels_for(sampler, start.label)
    adam = torch.optim.Adam([noise], RATE, betas=(0.9, 0.99))
    best, least = noise.detach().clone(), torch.full((len(noise),), math.inf, device=noise.device)
    for step in range(steps + 1):
        values = loss(sampler(noise, *given), noise)
        better = values.detach() < least
        best = torch.where(better[:, None], noise.detach(), best)
        least = torch.where(better, values.detach(), least)
        if step == steps:
            break
        adam.param_groups[0]["lr"] = RATE * (1 + math.cos(math.pi * step / steps)) / 2
        adam.zero_grad()
        values.sum().backward()  # type: ignore[no-untyped-call]
        adam.step()
        if sampler.prior == "uniform":
            noise.data.clamp_(-1, 1)
        on_step(step + 1)
    return best, least


def prior_term(sampler: Sampler, noise: Tensor) -> Tensor:
    """Returns `(R,)`: how unlikely noise is, `mean z^2` under N(0, 1), and 0 under U(-1, 1)."""
    return noise.square().mean(1) if sampler.prior == "normal" else noise.new_zeros(len(noise))


def counted(on_step: Progress | None, begun: int, total: int) -> Callable[[int], None]:
    """Returns what tells of the steps of one search among several."""
    return lambda done: None if on_step is None else on_step(begun + done, total)
