"""Words errors that a user can mend."""

from __future__ import annotations

from hydra.errors import HydraException, InstantiationException
from omegaconf.errors import OmegaConfBaseException

from forger.app.config.compose import worded
from forger.errors import UserError


def message_of(error: BaseException) -> str | None:
    """Words an error that a user can mend; `None` for a bug, which needs its traceback."""
    if isinstance(error, InstantiationException):
        return str(error.__cause__) if isinstance(error.__cause__, UserError) else None
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return worded(error)
    return None
