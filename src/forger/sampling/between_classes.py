"""Images between two classes: what a network is told of its class goes from one to the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forger.errors import ConfigError
from forger.sampling.sampler import Sampler


def generate_between(
    sampler: Sampler,
    noise: Tensor,
    start: Tensor,
    end: Tensor,
    t: float,
    draw: Callable[..., Tensor] | None = None,
) -> Tensor:
    """Generates images whose classes lie between two.

    Wherever the generator looks its labels up in an `nn.Embedding`, it gets
    `(1 - t) embedding[start] + t embedding[end]`; gain and bias of BatchNorm by class, and an
    embedding beside the noise, are such places. No generator has to know of it.

    Args:
        sampler: of a generator that is told classes.
        noise: `(B, latent_dim)`.
        start: numbers of classes, `(B,)`.
        end: numbers of classes, `(B,)`.
        t: in [0, 1].
        draw: generates images of noise and class by the sampler's generator; None: as it is.

    Returns:
        `(B, C, H, W)` in [-1, 1]; exactly those of `start` at 0.

    Raises:
        ConfigError: the generator looks labels up in no `nn.Embedding`.
    """
    looked_up: list[nn.Module] = []

    def interpolate(module: nn.Module, inputs: tuple[Any, ...], found: Tensor) -> Tensor | None:
        labels = inputs[0]
        if labels.numel() != len(start) or not bool((labels.flatten() == start).all()):
            return None  # of something else, such as positions
        looked_up.append(module)
        return torch.lerp(found, F.embedding(end.view_as(labels), module.weight), t)  # type: ignore[arg-type]

    embeddings = [one for one in sampler.generator.modules() if isinstance(one, nn.Embedding)]
    handles = [one.register_forward_hook(interpolate) for one in embeddings]
    try:
        images: Tensor = (draw or sampler)(noise, *sampler.condition.inputs({"label": start}))
    finally:
        for handle in handles:
            handle.remove()
    if not looked_up:
        kind = type(sampler.generator).__name__
        raise ConfigError(
            f"walk.labels: the generator {kind} looks labels up in no nn.Embedding, and so has"
            " nothing between two classes; name one class only"
        )
    return images


def walk(sampler: Sampler, noise: Tensor, stops: Tensor | None = None) -> Iterator[Tensor]:
    """Yields the frames of a walk of several walkers, each in the same place of every frame.

    Args:
        sampler: of the generator.
        noise: `(frames, walkers, latent_dim)`, for each frame.
        stops: numbers of classes, `(stops, walkers)`, or embeddings of texts, `(stops, walkers,
            dim)`, evenly spread over the frames, after the last of which each walker turns to its
            first; None: the generator is told neither.

    Yields:
        Images `(walkers, C, H, W)` in [-1, 1].

    Raises:
        ConfigError: classes change, and the generator looks them up in no `nn.Embedding`.
    """
    noise = noise.to(sampler.device)
    if stops is None:
        yield from map(sampler, noise)
        return
    stops = stops.to(sampler.device)
    frames = len(noise) // len(stops)
    for number, points in enumerate(noise):
        stop, step = divmod(number, frames)
        start, end = stops[stop], stops[(stop + 1) % len(stops)]
        if stops.is_floating_point():
            yield sampler(points, torch.lerp(start, end, step / frames))
        elif torch.equal(start, end):
            yield sampler(points, *sampler.condition.inputs({"label": start}))
        else:
            yield generate_between(sampler, points, start, end, step / frames)
