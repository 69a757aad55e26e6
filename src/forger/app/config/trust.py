"""What a user trusts of what a record names: modules and classes, folders and addresses."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from forger.app.config.source import import_target

OWN = "forger"
PACKAGES = (OWN, "torch", "torchvision", "torchmetrics", "lightning")
# Arguments that say where a class writes or what it connects to, and those of our own classes.
_WHERE = re.compile(
    r"(?:.*_)?(dir|dirpath|root|path|folder|uri|url|host|address|port|location|storage)"
)
_OURS = ("local_dir", "tracking_uri")
# What lies in the folders that settings name, once they are in use.
_IN_USE = {
    "cache_dir": ("images-*", "features-*", "logits-*", "classifier-*", "texts-*", "matcher-*"),
    "local_dir": ("mlflow.db",),
    **dict.fromkeys(("root", "data_dir"), ("MNIST", "FashionMNIST", "cifar-10-batches-py")),
}
_WITH_OWN_RULES = ("data_dir", "log_dir", "root", "cache_dir")


def named(trust: Sequence[str] | None, moved: Mapping[str, str] | None) -> list[str]:
    """Returns all that a user has named: `trust`, and the new names of what has moved."""
    return [*([trust] if isinstance(trust, str) else trust or ()), *(moved or {}).values()]


def is_named(value: str, trust: Iterable[str]) -> bool:
    """Tells whether `trust` names a dotted name or path, or a module or folder that it lies in."""
    if "/" in value and "://" not in value:
        value = os.path.normpath(value)  # lest dots lead out of a folder
    return any(value == one or value.startswith((f"{one}.", f"{one}/")) for one in trust)


def is_in_use(name: str, folder: str) -> bool:
    """Tells whether a folder that a record names is there, and holds what we keep in such a one."""
    return any(True for kept in _IN_USE[name] for _ in Path(folder).expanduser().glob(kept))


def says_where(name: str, ours: bool = False) -> bool:
    """Tells whether an argument of that name says where a class writes or what it connects to."""
    return name in _OURS if ours else _WHERE.fullmatch(name) is not None


def climbs(data: Any) -> bool:
    """Tells whether a path in plain data goes up, and so out of the folder that it begins with."""
    if isinstance(data, dict):
        data = [*data, *data.values()]
    if isinstance(data, (list, tuple)):
        return any(map(climbs, data))
    return isinstance(data, str) and ".." in re.split(r"[\\/]", data)


def links_out_of(folder: Path, trust: Iterable[str] = (), inside: Path | None = None) -> list[str]:
    """Returns complaints about links in a record's folder through which others would be written to.

    They may lead into the folder that the user gave, `inside`, and to those that `trust` names.
    """
    root, found = (inside or folder).resolve(), []
    for path in (folder, *folder.rglob("*")):
        target = path.resolve() if path.is_symlink() else root
        # W&B's link to a log in the user's cache; W&B makes it anew, and nobody opens it
        if target.is_relative_to(root) or path.match("wandb/*/logs/debug-core.log"):
            continue
        if not is_named(str(target), trust):
            found.append(
                f"{path}: is a link to {target}, outside of the folder that is written to; put a"
                f" copy in its place, or write trust=['{target}']"
            )
    return found


def move(config: Any, moved: Mapping[str, str] | None) -> Any:
    """Returns a plain config in which classes and modules have their new names, old to new."""
    if isinstance(config, list):
        return [move(value, moved) for value in config]
    if not isinstance(config, dict):
        return config
    config = {key: move(value, moved) for key, value in config.items()}
    target = config.get("_target_")
    for old, new in (moved or {}).items() if isinstance(target, str) else ():
        if is_named(target, [old]):
            return config | {"_target_": f"{new}{target.removeprefix(old)}"}
    return config


def targets_in(config: Any) -> list[str]:
    """Returns every `_target_` in a plain config that is not of a known package."""
    found = (value for key, value in _texts(config) if key == "_target_")
    return [target for target in found if not is_named(target, PACKAGES)]


def trust_in(config: Any) -> list[str]:
    """Returns what `trust` has to name for a config of the user's own, whose parts were built."""
    names = targets_in(config)
    classes = {name for name in names if isinstance(import_target(name), type)}
    return list(dict.fromkeys(n.rpartition(".")[0] if n in classes else n for n in names))


def locations_in(config: Any) -> list[str]:
    """Returns what `trust` has to name of where a plain config has things written or sent."""
    texts = [pair for pair in _texts(config) if pair[0] not in _WITH_OWN_RULES]
    return [value for key, value in texts if says_where(key)]


def _texts(config: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yields every text in a plain config with its setting's own name; "" in a list."""
    if isinstance(config, str):
        yield key, config
    items = config.items() if isinstance(config, dict) else ()
    for name, value in [("", one) for one in config] if isinstance(config, list) else items:
        yield from _texts(value, str(name))


def not_where(value: str) -> str:
    """Returns the refusal of a folder or an address."""
    return (
        "a record does not decide where things are written or sent; leave it out, set it yourself,"
        f" or write trust=['{value}']"
    )
