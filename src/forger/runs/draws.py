"""What a run draws once and its config then records: the seed, and names in trackers.

Owns these draws, so that a resumed run finds them in its config.
"""

from __future__ import annotations

import os
import secrets

from omegaconf import DictConfig

from forger.runs.folder import is_main_process

_WANDB = "forger.loggers.Wandb"


def choose_seed(seed: int | None) -> int:
    """Returns the seed, or a random one for `None`; ranks started by another take that one's."""
    if seed is not None:
        return seed
    if not is_main_process() and "PL_GLOBAL_SEED" in os.environ:
        return int(os.environ["PL_GLOBAL_SEED"])
    return secrets.randbelow(2**32)


def name_trackers(cfg: DictConfig) -> None:
    """Gives runs of W&B their ids here, so that the config records them for a resumed run."""
    for node in (cfg.get("logger") or {}).values():
        if isinstance(node, DictConfig) and node.get("_target_") == _WANDB and node.id is None:
            node.id = secrets.token_hex(4)
