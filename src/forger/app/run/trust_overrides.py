"""The overrides that a run or a job goes on with: whom they trust, and where it writes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from forger.app.config.messages import quoted
from forger.app.config.trust import is_in_use, locations_in, targets_in

FOLDERS = ("paths.log_dir", "paths.cache_dir", "paths.data_dir", "data.cache_dir")


def without_trust(overrides: Iterable[str]) -> list[str]:
    """Returns overrides without those that are about records and not of a job."""
    of_records = ("sweep.resume", "trust", "moved")
    return [one for one in overrides if one.partition("=")[0].lstrip("+") not in of_records]


def without_folders_elsewhere(overrides: Iterable[str], folder: Path) -> list[str]:
    """Leaves out of a job's overrides where a sweep wants to write beside its own folder.

    A cache or data that are there stay; for the rest the command's own config decides.
    """
    kept = []
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        value = value.strip("'\"")
        if key == "paths.log_dir":
            own = Path(value).absolute() in folder.parents
        else:
            own = key not in FOLDERS or is_in_use(key.rpartition(".")[2], value)
        kept += [override] if own else []
    return kept


def trusting(names: Iterable[str]) -> list[str]:
    """Returns the override that trusts what is named; none where nothing is."""
    listed = ",".join(quoted(name) if re.search(r"[^\w./:-]", name) else name for name in names)
    return [f"trust=[{listed}]"] if listed else []


def trust_of(cfg: DictConfig, *, own: bool) -> list[str]:
    """Returns the overrides by which a run that goes on is trusted as far as this command is.

    Args:
        cfg: of the command.
        own: whether all that it names is the user's, and not a record's.
    """
    named, moved = list(cfg.get("trust") or ()), dict(cfg.get("moved") or {})
    if own:
        plain: Any = OmegaConf.to_container(cfg, resolve=True)
        named += [*targets_in(plain), *locations_in(plain)]
    overrides = trusting(dict.fromkeys(named))
    pairs = ",".join(f"{quoted(old)}:{quoted(new)}" for old, new in moved.items())
    return [*overrides, f"moved={{{pairs}}}"] if moved else overrides
