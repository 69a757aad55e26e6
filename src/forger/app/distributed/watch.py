"""Ends all processes of a run soon after one of them has failed, with that one's own error."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from traceback import walk_tb
from typing import Any

from forger.app.distributed.local import write_error_file
from forger.app.distributed.rendezvous import ANOTHER, GONE, Rendezvous
from forger.errors import Interrupted, Pruned, RunError, UserError

# Seconds. A failure is seen, left to the main thread, recorded and passed on in less than 30.
POLL = 1.0
GRACE = 14.0  # for the main thread, which a failed collective mostly ends at once
PATIENCE = 3.0  # in which the reason of another's end shows itself


class OtherProcessError(RunError):
    """Another process of the run has failed; this one had nothing to do with it."""


@contextmanager
def watched_process_group(
    met: Rendezvous | None, device: Any, on_failure: Callable[[str], None]
) -> Iterator[None]:
    """Joins the processes of a run, and has the failure of any of them end this one in 30 seconds.

    Before it is ended by force, `on_failure` is called with the reason, in a thread of its own.
    """
    if met is None or met.own.count == 1:
        yield
        return
    over = threading.Event()
    threading.Thread(target=_watch, args=(met, on_failure, over), daemon=True).start()
    try:
        with met.process_group("nccl" if device.type == "cuda" else "gloo"):
            yield
    except (Interrupted, Pruned) as error:
        if isinstance(error, Pruned) or error.iteration is not None:
            met.leave()  # all have agreed to end here, and rank 0 may have much to save
        raise
    finally:
        over.set()


@contextmanager
def explained(met: Rendezvous | None) -> Iterator[None]:
    """Tells the other processes why this one fails, or raises why another one has failed first."""
    if met is None:
        yield
        return
    try:
        yield
    except Pruned:  # all processes alike
        raise
    except (Exception, Interrupted) as error:
        # What launched the processes ends the others by SIGTERM once one has failed.
        signalled = isinstance(error, Interrupted) and error.number == signal.SIGTERM
        if not signalled and not _is_of_torch_distributed(error):
            if not isinstance(error, Interrupted):
                met.tell(reason_of(error))
            raise
        until = time.monotonic() + (0.0 if signalled else PATIENCE)
        while (reason := met.failure()) in (None, ANOTHER) and time.monotonic() < until:
            time.sleep(0.1)
        if signalled and reason in (None, GONE):
            raise
        raise OtherProcessError(reason or f"{ANOTHER} ({reason_of(error)})") from error
    met.leave()


def reason_of(error: BaseException) -> str:
    """Words an error in a line: a user's mistake by its message, a bug with its type."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def _is_of_torch_distributed(error: BaseException) -> bool:
    """Tells whether a collective failed, as it does in each process when one of them ends."""
    frames = walk_tb(error.__traceback__ if isinstance(error, RuntimeError) else None)
    modules = (str(frame.f_globals.get("__name__")) for frame, _ in frames)
    return any(module.startswith("torch.distributed.") for module in modules)


def _watch(met: Rendezvous, on_failure: Callable[[str], None], over: threading.Event) -> None:
    """Ends this process once another one has failed and the main thread does not end by itself."""
    while not over.wait(POLL):
        reason = met.failure()
        if reason is None:
            continue
        if reason == GONE and met.own.by == "torchrun":  # nobody has failed: save
            os.kill(os.getpid(), signal.SIGTERM)
        if over.wait(GRACE):
            return
        write_error_file(reason, RunError.exit_code, follows=True)
        if not met.own.is_local and (met.own.rank == 0 or met.own.speaks):
            print(f"error: {reason}", file=sys.stderr, flush=True)
        with suppress(OSError):  # the disk may be full
            on_failure(reason)
        os._exit(RunError.exit_code)
