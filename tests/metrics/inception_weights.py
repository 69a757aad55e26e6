"""Inception weights that need no download."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3


class _Unloaded(FeatureExtractorInceptionV3):
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Loads nothing: there is no other way to build the network without its weights."""


def random_inception_weights(path: Path, seed: int = 0) -> Path:
    """Saves seeded random weights, which keep the scale of the activations, in the usual format."""
    torch.save({}, path)
    with torch.random.fork_rng():
        network = _Unloaded("random", ["2048"], str(path))
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
    torch.save(network.state_dict(), path)
    return path
