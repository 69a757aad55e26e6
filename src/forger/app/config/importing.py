"""Imports what a `_target_` names, and says in which line of which file an import fails."""

from __future__ import annotations

import traceback
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from forger.app.config.messages import nearest
from forger.app.config.source import described, is_installed
from forger.errors import ConfigError

_FORGER = Path(__file__).parents[2]


class TargetError(ConfigError):
    """A target that cannot be imported, called, or used where it stands.

    Args:
        message: what is wrong.
        target: its dotted name.
    """

    def __init__(self, message: str, target: str) -> None:
        super().__init__(message)
        self.target = target


def import_target(target: str) -> Any:
    """Returns what a dotted name stands for, as Hydra finds it.

    Raises:
        TargetError: there is no such name, or the import of a module fails; `__cause__` has more.
    """
    name, *parts = target.split(".")
    found = _import(name, None, target)
    for part in parts:
        owner, name = found, f"{name}.{part}"
        try:
            found = getattr(owner, part)
        except AttributeError as error:
            if isinstance(owner, ModuleType):
                found = _import(name, owner, target)
                continue
            reason = f"{name.rpartition('.')[0]} has no {part!r}{nearest(part, dir(owner))}"
            raise TargetError(reason, target) from error
    return found


def _import(name: str, owner: ModuleType | None, target: str) -> Any:
    try:
        return import_module(name)
    except (Exception, SystemExit) as error:  # whatever a user's module does
        missing = isinstance(error, ModuleNotFoundError) and error.name == name
        if not missing:
            reason = f"cannot be imported: {line_of(error)}"
        elif owner is None:
            reason = f"no module {name!r} is installed or in this folder"
        else:
            part, where = name.rpartition(".")[2], getattr(owner, "__file__", None)
            known = [known for known in dir(owner) if not known.startswith("_")]
            reason = f"{owner.__name__} ({where}) has no {part!r}{nearest(part, known)}"
        raise TargetError(reason, target) from error


def line_of(error: BaseException) -> str:
    """Returns an error in one line, with the last file and line of the user's own code in it."""
    if isinstance(error, SyntaxError):
        return described(error, error.filename or "?")
    users = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not (frame.filename.startswith("<") or is_installed(frame.filename))
        and not Path(frame.filename).is_relative_to(_FORGER)
    ]
    place = f"{users[-1].filename}, line {users[-1].lineno}: " if users else ""
    return f"{place}{type(error).__name__}: {' '.join(str(error).split())}"
