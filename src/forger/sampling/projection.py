"""Projects images into the latent space: the noise whose images are nearest to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from forger.bounds import NonNegativeFloat, NonNegativeInt, PositiveInt, check_bounds
from forger.errors import ConfigError
from forger.sampling.latent_search import (
    Pool,
    Progress,
    counted,
    descend,
    draw_pool,
    labels_for,
    prior_term,
)
from forger.sampling.sampler import CHUNK, Sampler

_LEAST = 1e-12  # that a difference is divided by: an image may be of one colour

Features = Callable[[Tensor], Tensor]
"""Images `(N, C, H, W)` in [-1, 1] to features `(N, F)`; gradients reach the images."""


@dataclass(frozen=True)
class Projection:
    """What was found for each of N images.

    Attributes:
        noise: `(N, latent_dim)`.
        label: numbers of classes `(N,)`; None: the generator is told none.
        images: `(N, C, H, W)` in [-1, 1].
        distance: root mean square difference of pixels in [-1, 1], `(N,)`.
        random_distance: that of the nearest of 1,000 random images, `(N,)`, to compare with.
    """

    noise: Tensor
    label: Tensor | None
    images: Tensor
    distance: Tensor
    random_distance: Tensor


def project(
    sampler: Sampler,
    images: Tensor,
    *,
    label: Any = None,
    features: Features | None = None,
    starts: PositiveInt = 4,
    steps: NonNegativeInt = 80,
    prior_weight: NonNegativeFloat = 0.01,
    seed: int = 0,
    on_step: Progress | None = None,
) -> Projection:
    """Finds noise whose images are near to others, by optimisation (arXiv:1609.03552, section 2.1).

    Minimised are the mean square difference of pixels over their variance in the image, that of
    features over the mean square of its own, and `prior_weight mean(z^2)`. The search begins at the
    `starts` nearest of 1,000 random images, of all classes unless one is given, and the best end is
    kept, of those whose pixels are nearer than all random images' if there are such.

    Args:
        sampler: of the generator.
        images: `(N, C, H, W)`, uint8 or in [-1, 1], of the size that it makes.
        label: the class of all images, by name or number; None: it is searched for.
        features: of the data's own classifier, for example.
        starts: for each image.
        steps: of Adam from each start.
        prior_weight: of the term that keeps noise likely.
        seed: of the random images.
        on_step: told of progress.

    Returns:
        what was found, where the weights are; the same for the same seed.

    Raises:
        ConfigError: the generator takes no noise, makes other sizes, or a setting is out of range.
    """
    check_bounds(starts, PositiveInt, "starts")
    check_bounds(steps, NonNegativeInt, "steps")
    check_bounds(prior_weight, NonNegativeFloat, "prior_weight")
    pool = draw_pool(sampler, seed, label)
    wanted = _scaled(images, pool).to(pool.images.device)
    parts = torch.split(wanted, max(1, CHUNK // starts))
    noises, labels, each = list[Tensor](), list[Tensor](), list[Tensor]()
    for number, part in enumerate(parts):
        step = counted(on_step, number * steps, len(parts) * steps)
        settings = min(starts, len(pool.noise)), steps, prior_weight
        noise, own, images = _project(sampler, part, pool, features, settings, step)
        noises.append(noise)
        labels += [] if own is None else [own]
        each.append(images)
    made = torch.cat(each)
    distance = (made - wanted).square().mean((1, 2, 3)).sqrt()
    floor = torch.cdist(wanted.flatten(1), pool.images.flatten(1)).min(1).values
    floor = floor / wanted[0].numel() ** 0.5
    label = torch.cat(labels) if labels else None
    return Projection(torch.cat(noises), label, made, distance, floor)


def _project(
    sampler: Sampler,
    wanted: Tensor,
    pool: Pool,
    features: Features | None,
    settings: tuple[int, int, float],
    step: Callable[[int], None],
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Projects some images at once: noise, label and images of what was found."""
    starts, steps, prior_weight = settings
    with torch.no_grad():
        parts = _parts(wanted, features)
        apart = [
            torch.cdist(own, view(pool.images)).square() / own.shape[1] / amount[:, None]
            for view, own, amount in parts
        ]
    rows = torch.arange(len(wanted), device=wanted.device).repeat_interleave(starts)
    nearest = torch.stack(apart).sum(0).topk(starts, largest=False).indices
    begin = pool.at(nearest.flatten())

    def loss(images: Tensor, noise: Tensor) -> Tensor:
        total = prior_weight * prior_term(sampler, noise)
        for view, own, amount in parts:
            total = total + _mean_square(view(images) - own[rows]) / amount[rows]
        return total

    noise, values = descend(sampler, begin, loss, steps, step)
    with torch.no_grad():
        ends = sampler(noise, *labels_for(sampler, begin.label))
        view, pixels, amount = parts[0]
        off = _mean_square(view(ends) - pixels[rows]) / amount[rows]
        # losses are not negative: whatever is no nearer than a random image comes behind the rest
        values = values + (off >= apart[0].amin(1)[rows]) * (values.amax() + 1)
    best = values.view(-1, starts).argmin(1) + rows[::starts] * starts
    return noise[best], None if begin.label is None else begin.label[best], ends[best]


def _parts(wanted: Tensor, features: Features | None) -> list[tuple[Features, Tensor, Tensor]]:
    """Returns how images are seen, what is seen of those wanted, and what their loss is divided by.

    Each image has its own divisor, so that what is found does not depend on those beside it.
    """
    pixels = wanted.flatten(1)
    spread = pixels.var(1, correction=0).clamp_min(_LEAST)
    parts: list[tuple[Features, Tensor, Tensor]] = [(lambda x: x.flatten(1), pixels, spread)]
    if features is not None:
        own = features(wanted)
        parts.append((features, own, _mean_square(own).clamp_min(_LEAST)))
    return parts


def _mean_square(rows: Tensor) -> Tensor:
    return rows.square().mean(1)


def _scaled(images: Tensor, pool: Pool) -> Tensor:
    """Returns images in [-1, 1]; raises `ConfigError` unless they are of the generator's size."""
    shape = tuple(pool.images.shape[1:])
    if images.ndim != 4 or tuple(images.shape[1:]) != shape or not len(images):
        sizes = ", ".join(map(str, shape))
        raise ConfigError(
            f"images {tuple(images.shape)}: must be (N, {sizes}), as the run makes them"
        )
    return images.float() / 127.5 - 1 if images.dtype == torch.uint8 else images.float()
