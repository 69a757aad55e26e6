"""Settings of train.py that are fine alone and senseless together, or on this machine.

Owns the list of the contradictions that can be seen before torch is imported. `check` has read the
types and ranges first; a rule therefore looks only at values that have passed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from forger.app.config import (
    callback_rules,
    data_rules,
    device_rules,
    launch_rules,
    logger_rules,
    loss_rules,
    network_rules,
    start_rules,
    trainer_rules,
)
from forger.app.config.accepted import Findings, Select

_LONGEST = 255  # bytes of a file's name on the usual file systems

_RULES = (
    start_rules.weights,
    start_rules.log_folder,
    start_rules.metrics,
    start_rules.environment,
    device_rules.devices,
    data_rules.folders,
    data_rules.shares,
    data_rules.enough,
    data_rules.loaders,
    trainer_rules.ours_instead,
    trainer_rules.strategies,
    trainer_rules.limits,
    trainer_rules.flags,
    device_rules.precision,
    device_rules.threads,
    device_rules.compiler,
    launch_rules.launches,
    loss_rules.losses,
    loss_rules.shared_fakes,
    loss_rules.schedules,
    loss_rules.optimizers,
    network_rules.norms,
    network_rules.sizes,
    network_rules.single_images,
    callback_rules.callbacks,
    logger_rules.packages,
)


def contradictions(select: Select) -> Findings:
    """Yields what is wrong with a config as a whole."""
    yield from _run(select)
    for rule in _RULES:
        yield from list(rule(select))  # what it has refused, the next ones do not look at


def _run(select: Select) -> Findings:
    seed, name = select("seed"), select("name")
    if isinstance(seed, int) and seed >= 2**32:
        yield "seed", "must be below 2**32, or null to draw one"
    if isinstance(name, str):
        path = Path(name)
        plain = name.strip() and name.isprintable() and all(_short(part) for part in path.parts)
        if not plain or path.is_absolute() or ".." in path.parts:
            yield "name", "must name a folder below paths.log_dir; write a word"
    for key in ("paths.log_dir", "paths.cache_dir", "paths.data_dir"):
        yield from _folder(key, select(key))


def _folder(key: str, folder: Any) -> Findings:
    """Yields a folder that cannot be made, since it has no name or a file has it."""
    if not isinstance(folder, str):
        return
    if not folder.strip() or not folder.isprintable() or not all(map(_short, Path(folder).parts)):
        yield key, f"must name a folder; write {key}=<folder>"
        return
    path = Path(folder).expanduser()
    existing = next((place for place in (path, *path.parents) if place.exists()), None)
    if existing is not None and not existing.is_dir():
        yield key, f"{existing} is a file; write {key}=<folder>"


def _short(part: str) -> bool:
    return len(os.fsencode(part)) <= _LONGEST
