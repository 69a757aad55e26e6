"""Draws the walk of `generate.py`: 16 images that change step by step and come back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from forger.errors import ConfigError
from forger.pictures import FILMS, pixel_grid, to_pixels
from forger.sampling.between_classes import generate_between, walk
from forger.sampling.sampler import Sampler
from forger.sampling.walk import loop

WALKERS, STOPS = 16, 6  # images side by side, and points of noise that each of them visits
_RATE = 20  # frames per second
_WIDTH = 384  # pixels, about


class Route(NamedTuple):
    """Where a walk goes: how many stops it has, what moves, and the classes of each walker."""

    stops: int
    noise_moves: bool
    # numbers (stops, walkers), or one row for all, or embeddings of texts (stops, walkers, dim);
    # None: there are none
    classes: Tensor | None


def plan_walk(
    sampler: Sampler,
    noise: bool,
    labels: Sequence[int],
    classes: Sequence[int],
    between: Sequence[str] = (),
    texts: Sequence[str] = (),
) -> Route | None:
    """Returns where a walk goes; None: there is to be none.

    Args:
        sampler: of the generator.
        noise: whether it goes through the latent space.
        labels: the classes that it goes through, of still noise unless `noise`; a single one:
            through the latent space within this class; none: within the classes of the images.
        classes: of the images, which the walkers are given in turn.
        between: texts, from one of which to the next it goes, of still noise unless `noise`.
        texts: of the images, which the walkers are given in turn.

    Raises:
        ConfigError: there is no noise, or nothing between classes for this generator.
    """
    if not sampler.latent_dim and (noise or labels):
        raise ConfigError("walk: the run's generator takes no noise to walk through; leave it out")
    if between:
        each = embedded(sampler, between)[:, None].expand(-1, WALKERS, -1)
        return Route(len(between), noise, each)
    if noise and texts:
        return Route(STOPS, True, embedded(sampler, ([*texts] * WALKERS)[:WALKERS])[None])
    if len(set(labels)) < 2:
        own_classes = [*(labels or classes)]
        own = torch.tensor((own_classes * WALKERS)[:WALKERS])[None] if own_classes else None
        return Route(STOPS, True, own) if noise or labels else None
    stops = [*labels] * (math.ceil(STOPS / len(labels)) if noise else 1)
    start, end = torch.tensor([[min(labels)], [max(labels)]], device=sampler.device)
    generate_between(sampler, sampler.noise(1).to(sampler.device), start, end, 0.5)
    return Route(len(stops), noise, torch.tensor(stops)[:, None].expand(-1, WALKERS))


def embedded(sampler: Sampler, texts: Sequence[str]) -> Tensor:
    """Returns the embeddings of texts for the generator, `(N, dim)`."""
    embed: Any = sampler.generator.embed
    rows = sampler.condition.rows_of(texts).to(sampler.device)
    with torch.no_grad():
        embedding: Tensor = embed(rows)
    return embedding


def draw_walk(sampler: Sampler, seed: int, frames: int, route: Route, kind: str = "gif") -> bytes:
    """Returns a film that repeats without a seam; its first frame shows the seed's first noise.

    Args:
        sampler: of the generator.
        seed: of the noise.
        frames: from a stop to the next.
        route: where it goes.
        kind: gif | mp4.
    """
    if route.noise_moves:
        stops = sampler.noise(WALKERS * route.stops, seed).view(route.stops, WALKERS, -1)
        noise = loop(stops, frames, sampler.prior)  # (frames, walkers, latent_dim)
    else:
        noise = sampler.noise(WALKERS, seed).expand(route.stops * frames, -1, -1)
    with torch.inference_mode():
        images = walk(sampler, noise, route.classes)
        pictures = (pixel_grid(to_pixels(one), width=_WIDTH) for one in images)
        return FILMS[kind](pictures, _RATE)
