"""What Lightning and Hydra say. Owns which of it a user sees; changes nothing that they do."""

from __future__ import annotations

import logging
import warnings


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


def quieten_hydra() -> None:
    """Drops what Hydra and imported packages say before there is a plan.

    Hydra 1.3 warns that configs/hydra/launcher/*.yaml fill in the plugins' own files of that name;
    later versions will have another way. Matplotlib tells that it has looked for fonts.
    """
    warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against ConfigStore")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
