"""A trained generator to sample from: what noise a seed means."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from forger.bounds import NonNegativeFloat, check_bounds
from forger.conditions import Condition
from forger.copying import copied
from forger.errors import ConfigError
from forger.noise import PRIORS, Prior
from forger.pictures import to_pixels
from forger.random_state import random_state_of
from forger.sampling.truncation import Truncated
from forger.seeds import Purpose, seed_for, stream

if TYPE_CHECKING:
    from forger.sampling.directions import Directions
    from forger.sampling.editing import Edit
    from forger.sampling.projection import Projection

CHUNK = 250  # images of one seeded draw, and of one pass through a network or an extractor
_NOTHING: Mapping[str, Tensor] = MappingProxyType({})
_SEEDS = 8  # images of each text in a picture
_MEAN_OF = 10_000  # styles, by which truncation goes


class Grid(NamedTuple):
    """Images for one picture.

    Attributes:
        images: `(N, C, H, W)` in [-1, 1].
        columns: None: as many as make it near-square.
        names: of the classes whose images the rows show; empty: a row is no class.
    """

    images: Tensor
    columns: int | None
    names: tuple[str, ...]


class Sampler(nn.Module):
    """A copy of a generator in float32 and eval mode, with the noise that it was trained on.

    Row i of a seed's noise is the same whatever the number of rows: it is drawn in chunks of 250,
    each a function of (seed, number of the chunk), on the CPU. So is what a condition adds, and
    what a generator draws by itself.

    A task whose generator is given something else, such as images to translate, derives from this
    class and says in `inputs` what that is.

    Args:
        generator: noise `(B, latent_dim)`, and what the condition gives, to images `(B, C, H, W)`
            in [-1, 1]; it is copied. One that takes no noise has no `latent_dim`.
        prior: distribution of the noise, `normal` N(0, 1) or `uniform` U(-1, 1).
        condition: what the generator is given beside noise.
    """

    def __init__(
        self, generator: nn.Module, prior: Prior = "normal", condition: Condition | None = None
    ) -> None:
        super().__init__()
        self.generator = copied(generator).float().eval().requires_grad_(False)
        self.condition = copied(condition or Condition())
        self.prior: Prior = prior
        self.latent_dim = int(getattr(generator, "latent_dim", 0))

    def train(self, mode: bool = True) -> Sampler:
        """Stays in eval mode."""
        return super().train(False)

    def forward(self, noise: Tensor, *given: Tensor) -> Tensor:
        """Generates `(B, C, H, W)` in [-1, 1]; gradients reach `noise`, and no weight."""
        with torch.autocast(noise.device.type, enabled=False):
            images: Tensor = self.generator(noise, *given)
        return images

    def noise(self, n: int, seed: int = 0) -> Tensor:
        """Draws the noise of the seed's first n images, `(n, latent_dim)`, on the CPU."""
        return torch.cat([self._noise(*chunk, seed) for chunk in enumerate(chunk_sizes(n))])

    def given(self, n: int, seed: int = 0) -> dict[str, Tensor]:
        """Draws what the seed's first n images are made of beside noise."""
        drawn = [self._given(*chunk, seed) for chunk in enumerate(chunk_sizes(n))]
        names = drawn[0] if drawn else ()
        return {name: torch.cat([one[name] for one in drawn]) for name in names}

    def sample(self, n: int, seed: int = 0, *, truncation: float = 1.0, **given: Any) -> Tensor:
        """Generates the seed's first n images, `(n, C, H, W)` in [-1, 1], where the weights are.

        Args:
            n: number of images.
            seed: of their noise.
            truncation: see `truncated`.
            given: what they are to be, for example `label=7` or `label=["cat", "ship"]`, by name
                or number, one for all or for each in turn, or a tensor of numbers; drawn as in
                training where it is not told.

        Raises:
            ConfigError: the generator is not given such a thing, or it has no such value; or it
                cannot be truncated.
        """
        if truncation != 1:
            return self.truncated(truncation).sample(n, seed, **given)
        wanted = self.condition.read(given, n)
        chunks = []
        for number, size in enumerate(chunk_sizes(n)):
            begin = number * CHUNK
            rows = {name: values[begin : begin + size] for name, values in wanted.items()}
            chunks.append(self._images(number, size, seed, self._given(number, size, seed) | rows))
        return torch.cat(chunks)

    def truncated(self, truncation: float) -> Sampler:
        """Returns a sampler of the same images nearer to the mean, of a generator with styles.

        A style `w` becomes `mean + truncation (w - mean)`, see `Truncated`. The mean is that of
        10,000 styles, always the same ones, of all classes as often as trained on.

        Args:
            truncation: 1 changes nothing, 0 gives one image.

        Raises:
            ConfigError: the generator has no styles, or `truncation` is negative.
        """
        check_bounds(truncation, NonNegativeFloat, "truncation")
        if truncation == 1:
            return self
        if not getattr(self.generator, "has_styles", False):
            raise ConfigError(
                f"truncation={truncation}: is for generators with styles, such as those of"
                " model=stylegan2; leave it out"
            )
        twin = copied(self)
        twin.generator = Truncated(twin.generator, self._mean_style(), truncation)
        return twin

    @torch.no_grad()
    def _mean_style(self) -> Tensor:
        random, sums = stream(Purpose.SAMPLES), []  # of no seed
        for size in chunk_sizes(_MEAN_OF):
            noise = PRIORS[self.prior]((size, self.latent_dim), random, torch.float32)
            given = self.condition.inputs(self.condition.sample(size, random))
            inputs = [one.to(self.device) for one in (noise, *given)]
            sums.append(self.generator.styles(*inputs)[:, 0].sum(0))  # type: ignore[operator]
        return torch.stack(sums).sum(0) / _MEAN_OF

    def project(self, images: Tensor, **settings: Any) -> Projection:
        """Finds the noise whose images are nearest to others, see `forger.sampling.projection`."""
        from forger.sampling.projection import project

        return project(self, images, **settings)

    def edit(
        self, mask: Tensor, colours: Tensor, edges: Tensor | None = None, **settings: Any
    ) -> Edit:
        """Finds images that agree with strokes, see `forger.sampling.editing`."""
        from forger.sampling.editing import edit

        return edit(self, mask, colours, edges, **settings)

    def directions(self, k: int = 8, **settings: Any) -> Directions:
        """Finds directions along which images change, see `forger.sampling.directions`."""
        from forger.sampling.directions import find_directions

        return find_directions(self, k, **settings)

    def grid(self, n: int, seed: int = 0) -> Grid:
        """Generates what one picture of about n images shows; always the same of a seed.

        Without classes the seed's first n images, `sample(n, seed)`; with classes a row for each,
        laid out by `grid_places`. Those are all images of `generate.py n=<columns>`, whose picture
        is the same one. With texts a row of 8 images for each of the first prompts.
        """
        if prompts := self.condition.prompts[: max(1, n // _SEEDS)]:
            texts = [prompt for prompt in prompts for _ in range(_SEEDS)]
            return Grid(self.sample(len(texts), seed, text=texts), _SEEDS, prompts)
        classes = self.condition.present()
        if not classes:
            return Grid(self.sample(n, seed), None, ())
        each = max(1, n // len(classes))
        _, columns = grid_places(len(classes), each, n)
        labels = torch.tensor(classes[:n]).repeat_interleave(each)
        images = self.sample(len(labels), seed, label=labels)
        names = tuple(self.condition.classes[number] for number in classes)
        return Grid(images, columns, names if columns else ())

    def chunk(
        self, number: int, size: int = CHUNK, seed: int = 0, given: Mapping[str, Tensor] = _NOTHING
    ) -> dict[str, Tensor]:
        """Generates the first images of one chunk.

        Args:
            number: of the chunk.
            size: number of images.
            seed: of their noise.
            given: what they are to be, such as `label` `(size,)`, the numbers of classes; drawn as
                in training where it is not told.

        Returns:
            `image`, the pixels, uint8 `(size, C, H, W)`, and what they were made of beside noise,
            such as `label` `(size,)`; all where the weights are.
        """
        told = {name: values.to(self.device) for name, values in given.items()}
        rows = self._given(number, size, seed) | told
        return {"image": to_pixels(self._images(number, size, seed, rows)), **rows}

    def inputs(
        self, number: int, size: int, seed: int, given: Mapping[str, Tensor]
    ) -> tuple[Tensor, ...]:
        """Returns what the generator is given for the first rows of one chunk of 250.

        Args:
            number: of the chunk.
            size: number of rows; a shorter chunk is the beginning of a longer one.
            seed: of what is drawn.
            given: what a condition adds, by name, for each row.
        """
        return self._noise(number, size, seed), *self.condition.inputs(given)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.generator.parameters()).device

    @torch.inference_mode()
    def _images(self, number: int, size: int, seed: int, given: Mapping[str, Tensor]) -> Tensor:
        """Generates; what callers make of it outside this mode is a tensor like any other."""
        device, own = self.device, seed_for(Purpose.DRAWS_OF_GENERATOR, seed, number)
        with random_state_of(own, device):
            inputs = [one.to(device) for one in self.inputs(number, size, seed, given)]
            images: Tensor = self(*inputs)
        return images

    def _noise(self, number: int, size: int, seed: int) -> Tensor:
        generator = stream(Purpose.SAMPLES, seed, number)
        whole = PRIORS[self.prior]((CHUNK, self.latent_dim), generator, torch.float32)
        return whole[:size]

    def _given(self, number: int, size: int, seed: int) -> dict[str, Tensor]:
        whole = self.condition.sample(CHUNK, stream(Purpose.SAMPLED_LABELS, seed, number))
        return {name: values[:size].to(self.device) for name, values in whole.items()}


def grid_places(classes: int, each: int, most: int) -> tuple[Tensor, int | None]:
    """Chooses what a picture of at most `most` images shows, of `each` of each class, in order.

    A row for each class; where that leaves a column or a row alone, or not even one image of each
    class, the first images in a near-square picture.

    Args:
        classes: how many there are; 0: the images are of no class.
        each: images of a class, or all where there are no classes.
        most: images in the picture.

    Returns:
        places of the images shown among all, `(shown,)`, and the number of columns, None for a
        near-square picture.
    """
    rows = min(max(classes, 1), most)
    columns = min(each, max(1, most // rows))
    places = torch.arange(rows)[:, None] * each + torch.arange(columns)
    return places.flatten(), columns if rows > 1 and columns > 1 else None


def chunk_sizes(n: int) -> list[int]:
    """Returns the sizes of the chunks that make n images: full ones, then the rest."""
    return [min(CHUNK, n - begin) for begin in range(0, n, CHUNK)]
