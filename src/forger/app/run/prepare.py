"""Decides what the config of a run leaves open, and records it there, before anything is built."""

from __future__ import annotations

import logging
import os
import secrets
import warnings
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from forger.app.config.settings import with_absolute_paths
from forger.app.config.trust import named
from forger.app.run.build import check_trackers
from forger.app.run.devices import check_gpu, choose_precision
from forger.app.run.folder import is_main_process
from forger.app.run.instantiate import import_targets
from forger.app.run.load import refuse_untrusted

log = logging.getLogger(__name__)

_ALL = ("",)  # parts of the config


def prepare(cfg: DictConfig) -> DictConfig:
    """Returns the config with absolute paths, seed, precision, and names in trackers.

    Raises:
        UserError: what it names cannot be imported, or is not on this machine.
    """
    quieten_lightning()
    cfg = with_absolute_paths(cfg)
    if cfg.resume is not None:  # a run folder may be anybody's
        trust, config = named(cfg.get("trust"), cfg.get("moved")), OmegaConf.to_container(cfg)
        refuse_untrusted(config, Path(cfg.resume), trust, _ALL, names_only=True)
    import_targets(cfg)
    if cfg.seed is None:
        cfg.seed = secrets.randbelow(2**32)
    if cfg.trainer.accelerator in ("auto", "gpu", "cuda"):
        check_gpu()
    chosen = choose_precision(cfg)
    if chosen is not None and is_main_process():
        log.info("precision       %s", chosen)
    name_trackers(cfg)
    if is_main_process():
        check_trackers(cfg)
    return cfg


def quieten_lightning() -> None:
    """Keeps Lightning's warnings and drops its advertisements and what the plan says better."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logger = logging.getLogger(name)
        logger.handlers.clear()  # its own; messages still reach ours
        logger.setLevel(logging.WARNING)
    # The averaged generator is in eval mode on purpose.
    warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode")
    # Rows of metrics are due by iteration, across epochs, however short these are.
    warnings.filterwarnings("ignore", "The number of training batches .* logging interval")
    # Lightning asks the wrong object; the place is ours, see callbacks/exact_resume.py.
    warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before the")
    # A time limit that a resumed run no longer has.
    warnings.filterwarnings("ignore", "Be aware that when using `ckpt_path`")
    # torch.compile looks for it at the fake images that G's update shows to D.
    warnings.filterwarnings("ignore", r"The \.grad attribute of a Tensor that is not a leaf")
    # Lightning 2.6 against torch 2.14, until Lightning follows.
    warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)")


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
