"""Names a run's folder by what was chosen: `dcgan-hinge-mnist-s0`."""

from __future__ import annotations

import re

from omegaconf import DictConfig, OmegaConf

_PARTS = ("model", "loss", "data")
_UNUSUAL = re.compile(r"[^\w.+-]+")


def run_name(_root_: DictConfig) -> str:
    """Returns the chosen model, loss and data, and the seed where it is given."""
    choices = OmegaConf.select(_root_, "hydra.runtime.choices") or {}
    words = [str(choices[part]) for part in _PARTS if choices.get(part)]
    seed = OmegaConf.select(_root_, "seed")
    words += [] if seed is None else [f"s{seed}"]
    return _UNUSUAL.sub("_", "-".join(words)) or "run"


def register() -> None:
    """Lets configs say `${run_name:}`; each process that resolves a folder's name calls it."""
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)
