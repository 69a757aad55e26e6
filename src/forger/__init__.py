"""forger: experiments with generative adversarial networks.

`forger.GAN` and its parts are plain Python for notebooks; `train.py` drives them from YAML. Names
load on first use, so that the command line can refuse a mistake before torch is imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "GAN": "forger.gan",
    "EMA": "forger.ema",
    "Updates": "forger.updates",
    "Sampler": "forger.sampling.sampler",
    "load": "forger.app.run.load",
}

__all__ = ["EMA", "GAN", "Sampler", "Updates", "load"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'forger' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
