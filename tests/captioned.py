"""Squares with captions, and the small game of texts that tests play on them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from helpers import SHAPE, LabelledSquares
from torch import Tensor

from forger.data.captions import CaptionTable
from forger.losses import AdversarialLoss, Hinge
from forger.networks import stackgan
from forger.networks.dfgan import Discriminator, Generator
from forger.networks.settings import Norm
from forger.networks.with_text import WithText
from forger.tasks import FromNoise, Stages
from forger.text import Learned, Text, text_facts


class CaptionedSquares(LabelledSquares):
    """Squares, of which one or two captions say where they are."""

    @cached_property
    def captions(self) -> CaptionTable:
        return CaptionTable()

    def read(self, split: str) -> dict[str, Tensor]:
        members = super().read(split)
        places = [self.classes[number] for number in members["label"].tolist()]
        texts = [[f"a square on the {x}", f"{x}, a square"][: 1 + (x == "left")] for x in places]
        return members | {"caption": self.captions.add(texts)}


def make_text(data: CaptionedSquares) -> Text:
    """The condition, told the captions."""
    facts = text_facts(data)
    condition = Text(Learned(facts.vocabulary, dim=6, word_dim=5, longest=8), facts.prompts)
    condition.setup(data)
    return condition


def make_task(data: CaptionedSquares, loss: AdversarialLoss | None = None) -> FromNoise:
    """DF-GAN, small; the weights depend on nothing but this call."""
    torch.manual_seed(0)
    condition = make_text(data)
    sizes: dict[str, Any] = {"width": 4, "text_dim": 6}
    generator = WithText(Generator(SHAPE, latent_dim=5, **sizes), condition.text_network())
    discriminator = WithText(Discriminator(SHAPE, **sizes), condition.text_network())
    return FromNoise(generator, discriminator, loss or Hinge(matching=2.0), condition)


def make_stages(
    data: CaptionedSquares,
    loss: AdversarialLoss | None = None,
    judged: int = 2,
    norm: Norm = "auto",
    **settings: Any,
) -> Stages:
    """StackGAN, small, in two stages, of which D may be made to judge others."""
    torch.manual_seed(0)
    condition = make_text(data)
    sizes: dict[str, Any] = {"width": 4, "text_dim": 6}
    generator = stackgan.Generator(SHAPE, latent_dim=5, code_dim=4, stages=2, **sizes)
    discriminator = stackgan.Discriminator(SHAPE, stages=judged, norm=norm, **sizes)
    sides = (WithText(one, condition.text_network()) for one in (generator, discriminator))
    return Stages(*sides, loss=loss, condition=condition, **settings)
