"""Imports what a `_target_` names, and says in which line of which file an import fails."""

from __future__ import annotations

import traceback
from importlib import import_module
from types import ModuleType
from typing import Any

from forger.app.config.messages import nearest
from forger.app.config.modules import described, is_installed
from forger.errors import ConfigError


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
    first, *parts = target.split(".")
    found = _import(first, target)
    for place, part in enumerate(parts, 1):
        owner, name = found, ".".join([first, *parts[:place]])
        try:
            found = getattr(owner, part)
        except AttributeError as error:
            if not isinstance(owner, ModuleType):
                words = f"{name.rpartition('.')[0]} has no {part!r}{nearest(part, dir(owner))}"
                raise TargetError(words, target) from error
            found = _import(name, target, owner)
    return found


def _import(name: str, target: str, owner: ModuleType | None = None) -> Any:
    try:
        return import_module(name)
    except (Exception, SystemExit) as error:  # whatever a user's module does
        missing = isinstance(error, ModuleNotFoundError) and error.name == name
        if missing and owner is None:
            words = f"no module {name!r} is installed or in this folder"
        elif missing and owner is not None:
            part = name.rpartition(".")[2]
            where = getattr(owner, "__file__", None)
            known = [known for known in dir(owner) if not known.startswith("_")]
            words = f"{owner.__name__} ({where}) has no {part!r}{nearest(part, known)}"
        else:
            words = f"cannot be imported: {line_of(error)}"
        raise TargetError(words, target) from error


def line_of(error: BaseException) -> str:
    """Returns the file and line where an error arose, in the user's code if any is on the way."""
    if isinstance(error, SyntaxError):
        return described(error, error.filename or "?")
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and frame.filename != __file__
    ]
    users = [frame for frame in frames if not is_installed(frame.filename)]
    at = next(reversed(users or frames), None)
    place = "" if at is None else f"{at.filename}, line {at.lineno}: "
    return f"{place}{type(error).__name__}: {' '.join(str(error).split())}"
