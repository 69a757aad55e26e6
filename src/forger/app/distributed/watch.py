"""Ends all processes of a run soon after one of them has failed, with that one's own error."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from forger.app.distributed.local import write_error_file
from forger.app.distributed.rendezvous import ANOTHER, Rendezvous
from forger.errors import Interrupted, Pruned, RunError, UserError

# Seconds. A failure is seen, left to the main thread, recorded and passed on in less than 30.
POLL = 1.0
GRACE = 14.0  # for the main thread, which a failed collective mostly ends at once
START_GRACE = 1.0  # while the process group is made: nothing but their number ends that wait
RECORDING = 4.0
PATIENCE = 3.0  # in which the reason of another's end shows itself


class OtherProcessError(RunError):
    """Another process of the run has failed; this one had nothing to do with it."""


@contextmanager
def watched_process_group(
    met: Rendezvous | None, device: Any, on_failure: Callable[[str], None]
) -> Iterator[None]:
    """Joins the processes of a run, and has the failure of any of them end this one in 30 seconds.

    Args:
        met: the processes; `None`: this one is alone.
        device: torch's, on which this process trains.
        on_failure: called with the reason, in a thread of its own, where the main thread does not
            end by itself and this process is therefore about to be ended.
    """
    if met is None or met.own.count == 1:
        yield
        return
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(met, on_failure, over), daemon=True)
    watcher.start()
    try:
        with met.process_group("nccl" if device.type == "cuda" else "gloo"):
            yield
    except (KeyboardInterrupt, SystemExit, Interrupted, Pruned) as error:
        met.leave()
        if met.own.rank != 0 and getattr(error, "iteration", None) is not None:
            met.wait_for_rank_0()  # all have agreed to end here, and it may have much to save
        raise
    finally:
        over.set()


@contextmanager
def explained(met: Rendezvous | None) -> Iterator[None]:
    """Tells the other processes why this one fails, or finds out which other one has failed.

    Raises:
        OtherProcessError: another process failed first; the message says which, and why.
    """
    if met is None:
        yield
        return
    try:
        yield
    except Pruned:  # all processes alike
        raise
    except (Exception, Interrupted) as error:
        collective = _is_of_torch_distributed(error)
        if isinstance(error, Interrupted) and met.is_launcher_gone:
            raise
        if collective or isinstance(error, Interrupted):
            reason = _failure_of_another(met, PATIENCE if collective else 0.0)
            if reason is None and collective:
                reason = f"{ANOTHER} ({str(error).splitlines()[0]})"
            if reason is not None:
                raise OtherProcessError(reason) from error
            raise
        met.tell(reason_of(error))
        raise
    met.leave()


def reason_of(error: BaseException) -> str:
    """Words an error in a line: a user's mistake by its message, a bug with its type."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def _is_of_torch_distributed(error: BaseException) -> bool:
    """Tells whether a collective failed, as it does in each process when one of them ends."""
    trace = error.__traceback__ if isinstance(error, RuntimeError) else None
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__")).startswith("torch.distributed."):
            return True
        trace = trace.tb_next
    return False


def _failure_of_another(met: Rendezvous, patience: float) -> str | None:
    """Returns why another process failed; what it says itself may take a moment."""
    until = time.monotonic() + patience
    while (reason := met.failure()) in (None, ANOTHER) and time.monotonic() < until:
        time.sleep(0.1)
    return reason


def _watch(met: Rendezvous, on_failure: Callable[[str], None], over: threading.Event) -> None:
    """Ends this process once another one has failed and the main thread does not end by itself."""
    while not over.wait(POLL):
        reason = met.failure()
        if reason is None:
            continue
        if met.is_launcher_gone:  # nobody has failed: there is something to save
            os.kill(os.getpid(), signal.SIGTERM)
        if not over.wait(GRACE if _is_group_up() else START_GRACE):
            _end_by_force(met, reason, on_failure)


def _is_group_up() -> bool:
    """Tells whether the process group is up, so that a death fails the next collective."""
    from torch import distributed

    return distributed.is_available() and distributed.is_initialized()


def _end_by_force(met: Rendezvous, reason: str, on_failure: Callable[[str], None]) -> None:
    recording = threading.Thread(target=_record, args=(on_failure, reason), daemon=True)
    recording.start()
    recording.join(RECORDING)  # a disk may hang as well
    write_error_file(reason, RunError.exit_code, follows=True)
    if not met.own.is_local and (met.own.rank == 0 or met.own.speaks):
        print(f"error: {reason}", file=sys.stderr, flush=True)
    os._exit(RunError.exit_code)


def _record(on_failure: Callable[[str], None], reason: str) -> None:
    with suppress(OSError):  # the disk may be full; the reason is still shown
        on_failure(reason)
