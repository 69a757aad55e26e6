"""The words that run one job of a command again, alone. Owns the choice among the command's.

Imports neither torch nor anything that does: processes that only start others use it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from forger.app.config.messages import quoted
from forger.app.config.trust import places_in, targets_in

_OF_THE_SWEEP = (
    *("hydra.sweep.", "hydra.sweeper", "hydra/sweeper", "hydra.launcher", "hydra/launcher"),
    *("hydra.run.dir", "hydra.mode", "hydra.job.env_set.FORGER_JOB"),
)


def job_words() -> list[str]:
    """Returns the words of the present job, without those that make it one of a sweep."""
    hydra = HydraConfig.get()
    kept = [w for w in hydra.overrides.hydra if not w.lstrip("+~").startswith(_OF_THE_SWEEP)]
    return [*hydra.overrides.task, *kept, "hydra.mode=RUN"]


def without_trust(words: Iterable[str]) -> list[str]:
    """Returns words without those that are about records and not of a job."""
    of_records = ("sweep.resume", "trust", "moved")
    return [word for word in words if word.partition("=")[0].lstrip("+") not in of_records]


def trusting(names: Iterable[str]) -> list[str]:
    """Returns the word that trusts what is named; none where nothing is."""
    listed = ",".join(quoted(name) if re.search(r"[^\w./:-]", name) else name for name in names)
    return [f"trust=[{listed}]"] if listed else []


def trust_of(cfg: DictConfig, *, own: bool) -> list[str]:
    """Returns the words by which a run that goes on is trusted as far as this command is.

    Args:
        cfg: of the command.
        own: whether all that it names is the user's, and not a record's.
    """
    named, moved = list(cfg.get("trust") or ()), dict(cfg.get("moved") or {})
    if own:
        plain: Any = OmegaConf.to_container(cfg, resolve=True)
        named += [*targets_in(plain), *places_in(plain)]
    words = trusting(dict.fromkeys(named))
    pairs = ",".join(f"{quoted(old)}:{quoted(new)}" for old, new in moved.items())
    return [*words, f"moved={{{pairs}}}"] if moved else words
