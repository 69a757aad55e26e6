"""Networks that cannot be built for the images, the loss or the batches. Owns these contradictions.

The networks' own constructors say the same once torch is imported. See `rules`.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from forger.app.config.accepted import Findings, Select
from forger.app.config.device_rules import processes
from forger.app.config.facts import (
    DCGAN,
    MLP,
    SUBPIXEL,
    image_shape,
    penalises_gradients,
    target_of,
)
from forger.errors import ConfigError
from forger.networks.sizes import plan_sizes, quarter

_NETWORKS = ("generator", "discriminator")
_SIZES = {DCGAN: plan_sizes, SUBPIXEL: quarter}  # which raises for sizes that cannot be made
_MOST_WEIGHTS = 10**11  # 400 GB in float32: no machine of today trains that on one device


def norms(select: Select) -> Findings:
    """Yields norms of the discriminator that its constructor would refuse."""
    key, home = "model.discriminator.norm", target_of(select, "model.discriminator")
    if home not in (f"{MLP}.Discriminator", f"{DCGAN}.Discriminator"):
        return
    mlp = home.startswith(MLP)
    if mlp and select(key) == "instance":
        yield (
            key,
            "an MLP has no pixels to take statistics over; write one of auto, batch, layer, "
            "spectral, none",
        )
    elif select(key) == "batch" and penalises_gradients(select):
        instance = "" if mlp else " instance,"
        yield (
            key,
            "this loss penalises gradients per sample, which BatchNorm mixes; write one of auto, "
            f"layer,{instance} spectral, none",
        )


def sizes(select: Select) -> Findings:
    """Yields image sizes that cannot be made, and networks that no machine could hold."""
    shape = image_shape(select)
    if shape is None:
        return
    homes = [target_of(select, f"model.{network}") for network in _NETWORKS]
    for module, rule in _SIZES.items():
        if any(home.startswith(f"{module}.") for home in homes):
            try:
                rule(shape)
            except ConfigError as error:
                yield "data.image_size", str(error)
                return
    for network, home in zip(_NETWORKS, homes, strict=True):
        key = f"model.{network}"
        if select.sound(key) and (weights := _weights(select, key, home, shape)) > _MOST_WEIGHTS:
            names = [f"{key}.{name}" for name in ("latent_dim", "width", "hidden")]
            largest = max(names, key=lambda name: _size(select(name)))
            if math.prod(shape) > _size(select(largest)):
                largest = "data.image_size"
            yield largest, f"makes a network of {weights:.0e} weights; write less"
            return


def _weights(select: Select, key: str, home: str, shape: tuple[int, int, int]) -> int:
    """Returns about how many weights one of our networks has, and 0 for any other."""
    if home in (f"{SUBPIXEL}.Generator", f"{SUBPIXEL}.Discriminator"):
        return _subpixel_weights(select, key, shape)
    latent, width = select(f"{key}.latent_dim") or 100, select(f"{key}.width") or 64
    pixels, hidden = math.prod(shape), select(f"{key}.hidden") or []
    if home == f"{MLP}.Generator":
        return sum(a * b for a, b in pairwise([latent, *hidden, pixels]))
    if home == f"{MLP}.Discriminator":
        return sum(a * b for a, b in pairwise([pixels, *hidden, 1]))
    if home in (f"{DCGAN}.Generator", f"{DCGAN}.Discriminator"):
        side, doublings = plan_sizes(shape)
        widest = width * 2 ** (doublings - 1)
        first = (latent if home.endswith("Generator") else 1) * side**2
        return int(widest * first + 16 * widest**2 * 2 / 3)
    return 0


def _subpixel_weights(select: Select, key: str, shape: tuple[int, int, int]) -> int:
    width, hidden = select(f"{key}.width") or 32, select(f"{key}.hidden") or 256
    latent = select(f"{key}.latent_dim") or 1  # a discriminator's one logit
    maps = math.prod(quarter(shape)) * 2 * width
    return int(hidden * (latent + maps) + width * (72 * width + 36 * shape[0]))


def _size(value: Any) -> int:
    return max(value, default=0) if isinstance(value, list) else int(value or 0)


def single_images(select: Select) -> Findings:
    """Yields batches of one image per process where BatchNorm would have nothing to average."""
    size, count = select("data.batch_size"), processes(select)
    if size is None or count is None or size != count:
        return
    if target_of(select, "model.generator") == f"{SUBPIXEL}.Generator":
        yield (
            "data.batch_size",
            f"BatchNorm in model.generator needs at least 2 images a process; write "
            f"data.batch_size={2 * count} or more",
        )
        return
    for network in _NETWORKS:
        key = f"model.{network}"
        if target_of(select, key) != f"{MLP}.{network.title()}" or not select.sound(key):
            continue
        norm = select(f"{key}.norm") or ("batch" if network == "generator" else "auto")
        if norm == "batch" and len(select(f"{key}.hidden") or []) > 1:
            yield (
                "data.batch_size",
                f"BatchNorm in {key} needs at least 2 images a process; write "
                f"data.batch_size={2 * count} or more, or {key}.norm=none",
            )
            return
