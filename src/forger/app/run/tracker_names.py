"""Gives a run its names in trackers, which its config then records."""

from __future__ import annotations

import os
import secrets

from omegaconf import DictConfig


def name_trackers(cfg: DictConfig) -> None:
    """Gives runs in trackers their ids, groups and job types, so that the config records them.

    The jobs of a sweep share its folder's name as their group, and are of the type `sweep`; a run
    alone is of the type `train`. Of a run that an agent of W&B started, its server knows the id and
    the group.
    """
    sweep = sweep_name()
    for node in (cfg.get("logger") or {}).values():
        if not isinstance(node, DictConfig) or "id" not in node:
            continue
        of_agent = "WANDB_SWEEP_ID" in os.environ and "entity" in node
        if node.id is None or of_agent:
            node.id = (os.environ.get("WANDB_RUN_ID") if of_agent else None) or secrets.token_hex(4)
        if node.get("group", "") is None and not of_agent:
            node.group = sweep
        if node.get("job_type", "") is None:
            node.job_type = "train" if sweep is None and not of_agent else "sweep"


def sweep_name() -> str | None:
    """Returns the name of the folder of the sweep whose job this process is; else `None`."""
    return os.environ.get("FORGER_SWEEP") or None
