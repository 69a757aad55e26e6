"""What the page asks of a run, as pictures to show: one request at a time, whoever asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice
from threading import RLock
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from forger.app.run.load import LoadedRun
from forger.errors import ConfigError
from forger.pictures import FILMS, pixel_grid, to_pil, to_pixels
from forger.random_state import random_state_of
from forger.sampling.between_classes import generate_between, walk
from forger.sampling.directions import Directions
from forger.sampling.editing import Edit
from forger.sampling.latent_search import Progress, labels_for
from forger.sampling.projection import Projection
from forger.sampling.sampler import Sampler
from forger.sampling.walk import loop

_WIDTH = 256  # pixels, about, of an image that is shown
_RATE = 20  # frames per second
Classifier = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Pixels `(N, C, H, W)` from 0 to 255, of any type, to features and logits."""


class Picked(NamedTuple):
    """An image that was picked up: the noise `(latent_dim,)` and the class that it is made of."""

    noise: Tensor
    label: int | None


@dataclass
class Studio:
    """A run whose generator makes images from noise.

    Args:
        run: with its networks where they are to compute.
        classifier: of the run's data, in eval mode; None: there is none.
        names: of what it tells apart.
    """

    run: LoadedRun
    classifier: Classifier | None = None
    names: tuple[str, ...] = ()
    lock: RLock = field(default_factory=RLock)

    def __post_init__(self) -> None:
        task, gan = self.run.gan.task, self.run.gan
        gan.requires_grad_(False)
        self.samplers = {
            "ema": task.sampler(gan.ema_generator.module),
            "raw": task.sampler(gan.generator),
        }
        self.sampler: Sampler = self.samplers["ema"]
        self.shape = self.run.image_shape
        condition = self.sampler.condition
        self.classes = [condition.classes[number] for number in condition.present()]
        self.has_styles = bool(getattr(self.sampler.generator, "has_styles", False))

    def samples(
        self, n: int, seed: int, label: str | None, truncation: float, weights: str
    ) -> tuple[list[Image.Image], list[Picked]]:
        """Returns the seed's first images, and what they are made of."""
        sampler = self.samplers[weights]
        given = {} if label is None else {"label": label}
        with self.lock:
            images = sampler.sample(n, seed, truncation=truncation, **given)
            drawn = sampler.given(n, seed) | sampler.condition.read(given, n)
        labels = drawn["label"].tolist() if "label" in drawn else [None] * n
        picked = [Picked(*one) for one in zip(sampler.noise(n, seed), labels, strict=True)]
        return [shown(image) for image in images], picked

    def image(self, picked: Picked) -> Image.Image:
        """Returns the image of what was picked up."""
        with self.lock, torch.no_grad():
            return shown(self.sampler(*self.inputs(picked))[0])

    def walk(self, stops: Sequence[Picked], frames: int, closed: bool) -> list[Tensor]:
        """Returns frames of the way from image to image, and back to the first if it is closed."""
        noise = torch.stack([one.noise for one in stops])[:, None]
        labels = None
        if stops[0].label is not None:
            labels = torch.tensor([[one.label] for one in stops])
        count = (len(stops) - (not closed)) * frames + (not closed)
        with self.lock, torch.inference_mode():
            way = walk(self.sampler, loop(noise, frames, self.sampler.prior), labels)
            return list(islice(way, count))

    @cached_property
    def moves_classes(self) -> bool:
        """Whether there is something between two classes."""
        try:
            if len(self.classes) > 1:
                first = Picked(self.sampler.noise(1)[0], self.sampler.condition.present()[0])
                self.moved(first, torch.zeros(1), self.classes[1], 0.5)
            return len(self.classes) > 1
        except ConfigError:
            return False

    def directions(self, k: int) -> Directions:
        """Finds directions, once for each number of them."""
        with self.lock:
            if k not in self._directions:
                self._directions[k] = self.sampler.directions(k)
            return self._directions[k]

    @cached_property
    def _directions(self) -> dict[int, Directions]:
        return {}

    def moved(
        self, picked: Picked, amounts: Tensor, towards: str | None = None, share: float = 0.0
    ) -> tuple[Image.Image, Picked | None]:
        """Returns an image moved along the directions, and part of the way to another class.

        What it is made of is None where that is no noise and no class any more.
        """
        found = self.directions(len(amounts))
        draw = partial(found.images, self.sampler, amounts)
        with self.lock, torch.no_grad():
            noise, *given = self.inputs(picked)
            if towards is not None and share > 0:
                end = self.sampler.condition.read({"label": towards}, 1)["label"]
                ends = given[0], end.to(noise.device)
                return shown(generate_between(self.sampler, noise, *ends, share, draw)[0]), None
            image = shown(draw(noise, *given)[0])
        if found.of_styles:
            return image, None
        return image, picked._replace(noise=picked.noise + (amounts @ found.vectors.cpu()))

    def find(
        self, pixels: Tensor, label: str | None, on_step: Progress
    ) -> tuple[Projection, Picked]:
        """Finds an image, uint8 `(C, H, W)`, in latent space."""
        look = None if self.classifier is None else self._features
        with self.lock:
            found = self.sampler.project(
                pixels[None].to(self.sampler.device), label=label, features=look, on_step=on_step
            )
        return found, _picked(found.noise, found.label)[0]

    def scribble(
        self,
        drawn: tuple[Tensor, Tensor, Tensor],
        start: Picked | None,
        weights: tuple[float, float],
        on_step: Progress,
    ) -> tuple[Edit, list[Picked]]:
        """Finds images by strokes: `mask`, `colours` and `edges`, see `forger.sampling.editing`.

        `weights` are those of staying near `start`, and of what D says.
        """
        near: dict[str, Any] = (
            {} if start is None else {"noise": start.noise, "label": _number(start.label)}
        )
        with self.lock, random_state_of(0, self.sampler.device):  # of what D is shown changed
            done = self.sampler.edit(
                *drawn,
                **near,
                realism=self._realism,
                stay=weights[0],
                realism_weight=weights[1],
                on_step=on_step,
            )
        return done, _picked(done.noise, done.label)

    def way(self, done: Edit, row: int) -> bytes:
        """Returns a GIF of the way to a candidate, which stays at its end for a while."""
        frames = list(done.frames[:, row : row + 1])
        return film_of([*frames, *frames[-1:] * len(frames)])

    def caption(self, image: Tensor, label: int | None = None) -> str:
        """Returns what the classifier reads in an image `(C, H, W)` in [-1, 1], or its class."""
        if self.classifier is None:
            return "" if label is None else self.sampler.condition.classes[label]
        with self.lock, torch.no_grad():
            chances = self.classifier(to_pixels(image)[None])[1].softmax(1)[0]
        best = int(chances.argmax())
        return f"{self.names[best]} ({float(chances[best]):.0%})"

    def inputs(self, picked: Picked) -> tuple[Tensor, ...]:
        """Returns what the generator is given for it: noise, and a class where there are any."""
        label = None if picked.label is None else torch.tensor([picked.label])
        given = labels_for(self.sampler, label)
        return tuple(one.to(self.sampler.device) for one in (picked.noise[None], *given))

    def _features(self, images: Tensor) -> Tensor:
        assert self.classifier is not None
        return self.classifier((images + 1) * 127.5)[0]

    def _realism(self, images: Tensor, given: tuple[Tensor, ...]) -> Tensor:
        task = self.run.gan.task
        named = dict(zip(self.sampler.condition.members, given, strict=True))
        logits = task.judge(task.discriminator, {"image": images, **named})
        return logits.reshape(len(images), -1).mean(1)


def shown(image: Tensor) -> Image.Image:
    """Returns an image `(C, H, W)`, uint8 or in [-1, 1], large enough to be looked at."""
    pixels = image if image.dtype == torch.uint8 else to_pixels(image)
    if len(pixels) not in (1, 3):  # channels that are no colours
        pixels = pixels.float().mean(0, keepdim=True).round().to(torch.uint8)
    return to_pil(pixel_grid(pixels[None], width=_WIDTH))


def film_of(frames: Sequence[Tensor], kind: str = "gif") -> bytes:
    """Returns a film, gif or mp4, of frames `(1, C, H, W)`."""
    return FILMS[kind]((pixel_grid(to_pixels(one), width=_WIDTH) for one in frames), _RATE)


def _picked(noise: Tensor, label: Tensor | None) -> list[Picked]:
    labels = [None] * len(noise) if label is None else label.tolist()
    return [Picked(*one) for one in zip(noise.cpu(), labels, strict=True)]


def _number(label: int | None) -> Tensor | None:
    return None if label is None else torch.tensor([label])
