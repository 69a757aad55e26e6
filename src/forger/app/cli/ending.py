"""How a command ends: what is said of it, once, and its exit code.

The code is 2 for a mistake of the user's, 1 for a bug or a run that could not go on, and 128 plus
its number for a signal (Ctrl-C: 130).
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from hydra.errors import HydraException, InstantiationException
from omegaconf.errors import OmegaConfBaseException

from forger.app.config.compose import worded
from forger.app.distributed.local import write_error_file
from forger.app.distributed.watch import OtherProcessError, reason_of
from forger.app.sweep.folder import BAD, Outcome, differing_keys, label, settings_in
from forger.errors import Interrupted, Pruned, UserError
from forger.processes import rank, this_process

_MISTAKES = ("ConfigError", "DataError", "UserError")  # errors that end a command with code 2


@dataclass(frozen=True)
class Ending:
    """How a command ended.

    Attributes:
        code: exit code.
        reason: what went wrong.
        error: class name of what was raised.
        value: the metric that `objective` names.
    """

    code: int = 0
    reason: str | None = None
    error: str | None = None
    value: float | None = None


def ending_of(error: BaseException) -> Ending:
    """Shows the error that ended a command, unless another process does."""
    if isinstance(error, Pruned):
        if rank() == 0:
            _say(f"pruned: {error}")
        return Ending(0, str(error), "Pruned")
    if isinstance(error, KeyboardInterrupt):
        error = Interrupted(signal.SIGINT)
    if isinstance(error, Interrupted):
        reason = f"interrupted by {error.cause}"
        write_error_file(reason, error.exit_code, follows=True)
        _say(reason)
        return Ending(error.exit_code, reason, "Interrupted")
    message, follows = message_of(error), isinstance(error, OtherProcessError)
    if message is None or (os.environ.get("HYDRA_FULL_ERROR") == "1" and not follows):
        traceback.print_exception(error)
    code = 1 if message is None else int(getattr(error, "exit_code", UserError.exit_code))
    kind = str(getattr(error, "kind", type(error).__name__))
    details = "".join(traceback.format_exception(error))
    write_error_file(reason_of(error), code, kind=kind, follows=follows, details=details)
    if message is not None:
        _say(f"error: {message}")
    return Ending(code, message or reason_of(error), kind)


def message_of(error: BaseException) -> str | None:
    """Words an error that a user can mend; `None` for a bug, which needs its traceback."""
    if isinstance(error, InstantiationException):
        return str(error.__cause__) if isinstance(error.__cause__, UserError) else None
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return worded(error)
    return None


def summarise(outcomes: Sequence[Outcome]) -> Ending:
    """Says which jobs of a sweep did not finish."""
    bad = [outcome for outcome in outcomes if outcome.status in BAD]
    if outcomes and all(outcome.status == "pruned" for outcome in outcomes):
        _say(f"error: none of {len(outcomes)} trials has completed: all were pruned")
        return Ending(1)
    if not bad:
        return Ending()
    keys = differing_keys(outcome.overrides for outcome in outcomes)
    lines = [f"error: {len(bad)} of {len(outcomes)} jobs not finished:"]
    for outcome in bad:
        name = label(settings_in(outcome.overrides, keys))
        unknown = "has not begun" if outcome.status == "missing" else outcome.status
        first, *rest = (outcome.reason or unknown).splitlines()
        lines += [f"  #{outcome.number} {name}: {first}", *(f"     {line}" for line in rest)]
    _say("\n".join(lines))
    begun = [outcome.error for outcome in bad if outcome.status != "missing"]
    mistakes = begun and all(error in _MISTAKES for error in begun)
    return Ending(UserError.exit_code if mistakes else 1)


def _say(text: str) -> None:
    """Writes to stderr, in one process for all that can hear it; another has its rank before."""
    own = this_process()
    if own is None or (own.rank == 0 and not own.is_local) or own.speaks:
        number = rank()
        print(f"[rank {number}] {text}" if number else text, file=sys.stderr)
