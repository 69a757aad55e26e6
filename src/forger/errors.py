"""The errors that a user can mend, and the command that installs a package which is missing."""

from __future__ import annotations

import signal
from pathlib import Path

_CLONE = Path(__file__).parents[2]


class UserError(ValueError):
    """A mistake of the user's; the message says which setting, its value and what is allowed.

    The command line prints it without a traceback and exits with `exit_code`.
    """

    exit_code = 2


class ConfigError(UserError):
    """A setting that is unknown, out of range, or contradicts another."""


class DataError(UserError):
    """Data that is missing, damaged, or not what the settings say."""


class RunError(UserError):
    """A run that could not go on, though its settings were right: a full disk, vanished data."""

    exit_code = 1


class DivergedError(RunError):
    """Training whose loss or weights are no longer finite."""


class Pruned(Exception):  # noqa: N818  (no error)
    """A search ended the run early, saved, since its scores fall behind; the exit code is 0."""


class Interrupted(BaseException):
    """A signal ended the run: no failure, and nothing that code in between should catch.

    Args:
        number: of the signal.
        iteration: after which training stopped, saved; `None`: not training.
    """

    def __init__(self, number: int, iteration: int | None = None) -> None:
        super().__init__(number, iteration)
        self.number, self.iteration = number, iteration

    @property
    def cause(self) -> str:
        """The signal's name as a user knows it."""
        return "Ctrl-C" if self.number == signal.SIGINT else signal.Signals(self.number).name

    @property
    def exit_code(self) -> int:
        """What shells report of a process that the signal ended."""
        return 128 + int(self.number)


def install_command(extra: str) -> str:
    """Returns what to type for an extra of pyproject.toml, in a clone and elsewhere."""
    if (_CLONE / "pyproject.toml").is_file():
        return f'pip install -e ".[{extra}]"'
    return f'pip install "forger-gan[{extra}]"'
