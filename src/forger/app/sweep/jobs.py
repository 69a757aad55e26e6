"""The jobs of a sweep: what each one was asked for, how it ended, and how it is named."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from forger.app.config.trust import is_in_use

Status: TypeAlias = Literal["finished", "pruned", "failed", "interrupted", "running", "missing"]
"""`missing` has not begun; `interrupted` can go on; `pruned` was ended early by a search."""

BAD: frozenset[Status] = frozenset({"failed", "interrupted", "missing"})
"""What makes a sweep's exit code differ from 0."""

SEED = "seed"
FOLDERS = ("paths.log_dir", "paths.cache_dir", "paths.data_dir", "data.cache_dir")
_NOT_SHOWN = re.compile(r"(sweep|hydra)([./].*)?|resume")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job to launch."""

    number: int  # in the sweep, from 0
    overrides: tuple[str, ...]  # as Hydra takes them; those of the whole sweep among them


@dataclass(frozen=True, kw_only=True)
class Outcome(Job):
    """What became of one job."""

    folder: Path  # of its run; it may not exist
    status: Status
    reason: str | None = None  # why it did not finish
    error: str | None = None  # class name of what it raised, for example `DivergedError`
    value: float | None = None  # the metric that `objective` names
    seconds: float | None = None  # of all attempts


def by_key(overrides: Iterable[str]) -> dict[str, str]:
    """Returns each override by the key that it sets; a later one replaces an earlier one.

    Those for the sweep, for Hydra and for a resumed run are left out. The key of an override that
    adds something (`+x=1`) is that of one that changes it; that of `~x` begins with `~`.
    """
    found: dict[str, str] = {}
    for override in overrides:
        key = override.partition("=")[0].strip().lstrip("+")
        if not _NOT_SHOWN.fullmatch(key.lstrip("~")):
            found[key] = override.strip()
    return found


def differing_keys(jobs: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Returns the keys whose values differ between the overrides of jobs, in their order."""
    values = [{key: value_in(one) for key, one in by_key(overrides).items()} for overrides in jobs]
    keys = dict.fromkeys(key for job in values for key in job)
    return tuple(key for key in keys if len({job.get(key) for job in values}) > 1)


def value_in(override: str) -> str:
    """Returns the value that an override sets, without quotes; `~x` sets none and is returned."""
    _, equals, text = override.partition("=")
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text if equals else override.strip()


def label(overrides: Mapping[str, str], keys: Iterable[str]) -> str:
    """Returns a job's overrides of some keys in a row; `overrides` are sorted by key."""
    return " ".join(overrides[key] for key in keys if key in overrides)


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
