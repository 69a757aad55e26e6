"""Words for Hydra itself that would be ignored, or break where runs go. Owns these few.

All others are Hydra's own to check: its config has a schema.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from forger.app.config.messages import choice
from forger.errors import install_command

_EXTRAS = {f"hydra_plugins.hydra_{name}_launcher": name for name in ("joblib", "submitit", "ray")}
_FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")


def for_hydra(key: str) -> bool:
    """Tells whether a key is one of Hydra's own."""
    return key.partition("@")[0] == "hydra" or key.startswith(("hydra.", "hydra/"))


def refusal_of(override: Override) -> str | None:
    """Returns what is wrong with a word for Hydra, in itself."""
    key = override.key_or_group
    if key == "hydra":
        return "belongs to the script; write hydra.<setting>=<value>"
    if override.is_add() or override.is_force_add():
        return _unknown(key)
    if override.is_delete() or override.is_sweep_override():
        return None
    value = override.value()
    if key == "hydra.job.chdir" and value is True:
        return "relative paths, paths.data_dir for one, would mean others; leave it out"
    if key in _FOLDERS and isinstance(value, str) and not value.strip():
        return "must name a folder"
    if key == "hydra.searchpath":
        for folder in value if isinstance(value, list) else ():
            path = str(folder).removeprefix("file://")
            if "://" not in path and not Path(path).is_dir():
                return f"there is no folder {path}"
    return None


def shared_folder(hydra: DictConfig) -> Iterator[str]:
    """Yields what is wrong with the folders of a sweep's jobs in Hydra's composed config."""
    subdir = str(hydra.sweep._get_node("subdir"))
    if "${" not in subdir:
        yield (
            f"hydra.sweep.subdir={subdir}: would be the folder of every job; write "
            "'hydra.sweep.subdir=${hydra.job.num}'"
        )


def missing_launcher(hydra: DictConfig) -> Iterator[str]:
    """Yields what to install for a launcher whose package is not here."""
    package = ".".join(str(OmegaConf.select(hydra, "launcher._target_")).split(".")[:2])
    extra = _EXTRAS.get(package)
    if extra is not None and find_spec(package) is None:
        word = hydra.runtime.choices.get("hydra/launcher", extra)
        yield (f"hydra/launcher={word}: its package is not installed; run {install_command(extra)}")


def _unknown(key: str) -> str | None:
    """Refuses a setting that Hydra's schema does not have: a word with + would add it."""
    kind: Any = HydraConf
    for part in key.split(".")[1:]:
        if not is_dataclass(kind):
            return None
        known = {field.name: field.type for field in fields(kind)}
        if part not in known:
            return "unknown setting of Hydra" + choice(part, known)
        kind = known[part]
    return None
