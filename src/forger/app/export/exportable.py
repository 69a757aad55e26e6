"""A run's generator as other programs are to see it, with 64 inputs by which it is checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from forger.errors import UserError
from forger.pictures import to_pixels
from forger.sampling.any_size import reflected, side_rules
from forger.sampling.sampler import Sampler
from forger.sampling.translator import Translator

Pixels = Literal["uint8", "unit"]
Inputs: TypeAlias = tuple[Tensor, ...]
Generate: TypeAlias = Callable[[Inputs], Tensor]

BOUND = 1e-4  # of the difference from torch, on images in [-1, 1]
_CHECKED = 64
_BATCHES = (1, 2, 29, 32)  # of which these 64 are made
_MEANINGS = {
    **{"normal": "N(0, 1)", "uniform": "U(-1, 1)", "label": "numbers of classes, from 0"},
    "text": "embeddings of texts",
    **{"uint8": "pixels, 0 to 255", "unit": "pixels in [-1, 1]"},
}


class WithPixels(nn.Module):
    """A generator of uint8 images, which takes sources of uint8 too; or all of it in [-1, 1].

    Args:
        generator: noise and what a condition gives, or sources, to images mostly in [-1, 1].
        pixels: `uint8`, rounded as everywhere here, or `unit`, clipped to [-1, 1].
    """

    def __init__(self, generator: nn.Module, pixels: Pixels) -> None:
        super().__init__()
        self.generator, self.pixels = generator, pixels

    def forward(self, *inputs: Tensor) -> Tensor:
        """Generates `(B, C, H, W)`."""
        images: Tensor = self.generator(*_unscaled(inputs))
        return to_pixels(images) if self.pixels == "uint8" else images.clamp(-1, 1)


@dataclass(frozen=True)
class Exportable:
    """A generator to export.

    Attributes:
        sampler: of the run, on the CPU, directed and truncated as it is to be.
        wrapped: its generator with the wanted pixels.
        names: of the inputs: `noise` and what the condition gives, or `source`.
        inputs: 64 of each, as `wrapped` takes them.
    """

    sampler: Sampler
    wrapped: WithPixels
    names: tuple[str, ...]
    inputs: Inputs

    @property
    def multiples(self) -> tuple[int, ...]:
        """What sides may have to be multiples of where they vary, the likeliest first."""
        if not isinstance(self.sampler, Translator):
            return ()
        height, width = self.inputs[0].shape[2:]
        rules = dict.fromkeys(side_rules(self.sampler.generator))
        return tuple(one for one in rules if height % one == 0 and width % one == 0)

    def ports(self, multiple: int | None) -> dict[str, Any]:
        """Returns names, types and shapes of what goes in and comes out.

        Args:
            multiple: of the sides where they may vary; None: they may not.
        """
        kinds = {"noise": self.sampler.prior, "source": self.wrapped.pixels}
        with torch.inference_mode():
            image = self.wrapped(*(one[:2] for one in self.inputs))
        found = []
        for name, one in [*zip(self.names, self.inputs, strict=True), ("images", image)]:
            shape = ["batch", *one.shape[1:]]
            meaning = _MEANINGS.get(kinds.get(name, name), "")
            if one is image:
                meaning = _MEANINGS[self.wrapped.pixels]
            if multiple is not None:
                shape[2:] = "rows", "columns"
                least = max(multiple, side_rules(self.sampler.generator)[1])
                meaning += f"; sides: multiples of {multiple}, from {least} on"
            kind = str(one.dtype).removeprefix("torch.")
            found.append({"name": name, "dtype": kind, "shape": shape, "meaning": meaning})
        return {"inputs": found[:-1], "output": found[-1]}

    def largest_difference(self, generate: Generate, multiple: int | None = None) -> float:
        """Returns how far an export is from torch, on images in [-1, 1].

        A uint8 pixel counts by the least difference that explains it: 0 where torch's number
        rounds to it.

        Args:
            generate: what was exported, inputs to images.
            multiple: as in `ports`.

        Raises:
            UserError: it is above 1e-4, or images are of another shape.
        """
        batches = [*zip(*(torch.split(one, [*_BATCHES]) for one in self.inputs), strict=True)]
        if multiple is not None:  # sides that the run was not trained on
            height, width = self.inputs[0].shape[2:]
            larger = reflected(self.inputs[0][:1], height + multiple, width + 2 * multiple)
            batches.append((larger,))
        found = torch.stack([self._difference(generate, batch) for batch in batches]).max().item()
        if not found <= BOUND:  # NaN, too
            raise UserError(
                f"its images differ from torch's by {found:.2g} on [-1, 1]; allowed: {BOUND:g}."
                " Networks that draw numbers by themselves cannot be exported"
            )
        return found

    def _difference(self, generate: Generate, inputs: Inputs) -> Tensor:
        with torch.inference_mode():
            made, expected = generate(inputs), self.sampler(*_unscaled(inputs)).clamp(-1, 1)
        if made.shape != expected.shape:
            raise UserError(f"its images are {tuple(made.shape)}, not {tuple(expected.shape)}")
        difference = (made - expected).abs()
        if made.dtype == torch.uint8:
            difference = ((made - (expected + 1) * 127.5).abs() - 0.5).clamp(min=0) / 127.5
        largest: Tensor = difference.max()
        return largest


def make_exportable(sampler: Sampler, pixels: Pixels) -> Exportable:
    """Wraps the generator of a sampler on the CPU, and draws the inputs."""
    inputs = sampler.inputs(0, _CHECKED, 0, sampler.given(_CHECKED))
    names: tuple[str, ...] = ("noise", *sampler.condition.members)
    generator: Any = sampler.generator
    if sampler.condition.text_dim:  # texts become embeddings elsewhere
        with torch.no_grad():
            inputs = inputs[0], generator.embed(inputs[1])
        names, generator = ("noise", "text"), generator.network
    if isinstance(sampler, Translator):
        names = ("source",)
        inputs = tuple(map(to_pixels, inputs)) if pixels == "uint8" else inputs
    return Exportable(sampler, WithPixels(generator, pixels).eval(), names, inputs)


def _unscaled(inputs: Inputs) -> Inputs:
    """Returns inputs of which images are in [-1, 1]."""
    first, *others = inputs
    return (first / 127.5 - 1 if first.dtype == torch.uint8 else first, *others)
