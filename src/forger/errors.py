"""The errors that a user can mend. Owns their types; the command line words them."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake of the user's; the message says which setting, its value and what is allowed.

    The command line prints the message alone and exits with `exit_code`; a traceback would only
    hide it. A notebook sees a `ValueError`.
    """

    exit_code = 2


class ConfigError(UserError):
    """A setting that is unknown, out of range, or contradicts another."""


class DataError(UserError):
    """Data that is missing, damaged, or not what the settings say."""
