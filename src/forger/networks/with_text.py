"""A network that is told a text, and the encoder that embeds it for this side of the game."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override


class WithText(nn.Module):
    """A network of texts' embeddings, given encoded rows in their place.

    There may be more texts than images to judge: those behind are of the first images again.

    Args:
        network: given noise or images, and embeddings `(B, dim)`.
        encoder: turns rows of whole numbers `(B, L)` into embeddings; rows of floating-point
            numbers are embeddings already.
    """

    def __init__(self, network: nn.Module, encoder: nn.Module) -> None:
        super().__init__()
        self.network, self.encoder = network, encoder
        self.image_shape = network.image_shape
        self.latent_dim = getattr(network, "latent_dim", None)
        self.extra_noise = getattr(network, "extra_noise", 0)
        self.stage_sides = getattr(network, "stage_sides", ())
        self.takes_more_texts = getattr(network, "takes_more_texts", False)
        self.independent_samples = getattr(network, "independent_samples", False)

    @override
    def forward(self, inputs: Tensor, text: Tensor, **named: Any) -> Any:
        if (more := len(text) - len(inputs)) and not self.takes_more_texts:
            inputs = torch.cat([inputs, inputs[:more]])
        return self.network(inputs, self.embed(text), **named)

    def embed(self, text: Tensor) -> Tensor:
        """Returns the embeddings `(B, dim)` of rows."""
        embedding: Tensor = text if text.is_floating_point() else self.encoder(text)
        return embedding
