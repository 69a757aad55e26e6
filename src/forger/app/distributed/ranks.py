"""The processes of one run, which end together. Owns who watches whom and how all are ended.

`forger.app.distributed.rank_errors` tells why. Imports neither torch nor anything that does.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from time import monotonic
from typing import TYPE_CHECKING

from forger.app.distributed import meeting
from forger.app.distributed.meeting import Meeting
from forger.app.distributed.rank_errors import (
    VARIABLE,
    Launcher,
    Processes,
    cause_of_death,
    clear_reasons,
    hand_over,
    is_consequence,
    launcher,
    reason_of,
    say_orphaned,
    true_reason,
    write_error,
)
from forger.errors import Pruned, RunError

if TYPE_CHECKING:
    from lightning import Trainer

# Seconds. A death is seen, left to the main thread, recorded and passed on in less than 30.
POLL = 1.0
GRACE = 14.0  # for the main thread, which a failed collective mostly ends at once
START_GRACE = 1.0  # while processes are still meeting: nothing but their number ends the wait
RECORDING = 4.0
ANOTHER = "another process of the run is gone; the output of what launched it says why"
LEAVING = 5.0  # for processes that end by themselves
TERMINATING = 2.0


@contextmanager
def watched(
    folder: Path, trainer: Trainer, on_death: Callable[[str], None]
) -> Iterator[Callable[[], None]]:
    """Has the death of any process of a run end all of them within 30 seconds.

    Yields what ends the watch: once all is trained, none is waited for.

    The process that starts others watches them, and they it; those launched from outside watch for
    one another's last words. One process alone is left alone.

    Args:
        folder: the run's, where `errors/` tells why a rank ended.
        trainer: about to start the other ranks, or started as one of them.
        on_death: called with the reason, in a thread of its own, where the main thread does not
            end by itself and this process is therefore about to be ended.
    """
    if trainer.world_size == 1:
        yield lambda: None
        return
    over, above, met = threading.Event(), launcher(), meeting.present()
    if above is None and trainer.global_rank == 0:
        clear_reasons(folder)
    if met is not None:
        _start(_watch_met, met, on_death, over)
    elif above is not None:
        _start(_watch_launcher, above, trainer.global_rank, over)
    else:
        os.environ[VARIABLE] = f"{os.getpid()} {folder}"
        _start(_watch_started, folder, trainer, on_death, over)

    def no_more() -> None:
        _dismiss_lightnings_watcher(trainer)
        over.set()

    try:
        yield no_more
    except BaseException:
        over.set()
        if above is None:
            end(started(trainer), LEAVING)
        raise
    finally:
        over.set()
        if above is None:
            os.environ.pop(VARIABLE, None)


@contextmanager
def explained(folder: Path, trainer: Trainer) -> Iterator[None]:
    """Lets a dead rank's own error take the place of a collective's that followed from it.

    Raises:
        RunError: another rank died; the message says which, and why.
        SystemExit: this rank's error is rank 0's to show.
    """
    try:
        yield
    except Pruned:  # all ranks alike
        raise
    except Exception as error:
        if trainer.world_size == 1:
            raise
        hand_over(error)
        if launcher() is not None:
            raise
        reason = true_reason(error, folder, started(trainer))
        if reason != reason_of(error):
            raise RunError(reason) from error
        if not is_consequence(reason):
            write_error(folder, trainer.global_rank, error)
            if (met := meeting.present()) is not None:
                met.tell(f"rank {trainer.global_rank}: {reason}")
        elif meeting.present() is not None:
            raise RunError(f"{ANOTHER} ({reason.splitlines()[0]})") from error
        raise


def started(trainer: Trainer) -> Processes:
    """Returns the processes that Lightning has started so far, by rank."""
    processes = getattr(trainer.strategy.launcher, "procs", [])
    own = (process for process in processes if isinstance(process, Popen))
    return dict(enumerate(own, start=trainer.global_rank + 1))


def end(processes: Processes, patience: float) -> None:
    """Ends processes: waits for them, then asks them, then makes them.

    Args:
        processes: some may have ended.
        patience: seconds in which they may end by themselves.
    """
    try:
        _wait(processes, patience)
        for process in processes.values():
            if process.poll() is None:
                process.terminate()
        _wait(processes, TERMINATING)
    finally:
        for process in processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()


def _wait(processes: Processes, seconds: float) -> None:
    until = monotonic() + seconds
    for process in processes.values():
        try:
            process.wait(max(0.0, until - monotonic()))
        except TimeoutExpired:
            return


def _start(function: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=function, args=arguments, daemon=True, name="forger-ranks")
    thread.start()
    return thread


def _watch_launcher(above: Launcher, rank: int, over: threading.Event) -> None:
    """In a rank above 0: ends it once rank 0 is gone, whatever the main thread does."""
    while not above.is_gone():
        if over.wait(POLL):
            return
    if not over.wait(LEAVING):
        say_orphaned(rank)
        os._exit(1)


def _watch_started(
    folder: Path, trainer: Trainer, on_death: Callable[[str], None], over: threading.Event
) -> None:
    """In the process that starts others: ends it once one of them has failed."""
    while not over.wait(POLL):
        processes = started(trainer)
        _dismiss_lightnings_watcher(trainer)
        if not any(process.poll() for process in processes.values()):
            continue
        reason = cause_of_death(folder, processes) or "a process of the run died"
        if not over.wait(GRACE if _have_met() else START_GRACE):
            _end_by_force(reason, processes, on_death)


def _watch_met(met: Meeting, on_death: Callable[[str], None], over: threading.Event) -> None:
    """In a process launched from outside: ends it once another one has said why it ends."""
    while not over.wait(POLL):
        reason = met.cause_of_death()
        if reason is not None and not over.wait(GRACE if _have_met() else START_GRACE):
            _end_by_force(reason, {}, on_death, tell=met.own.rank == 0 or met.own.speaks)


def _dismiss_lightnings_watcher(trainer: Trainer) -> None:
    """Keeps Lightning from killing this process up to 5 s after a death, its work unfinished."""
    processes = getattr(trainer.strategy.launcher, "procs", None)
    for thread in threading.enumerate():
        if processes and getattr(thread, "_child_processes", None) is processes:
            thread._child_processes = []  # type: ignore[attr-defined]


def _have_met() -> bool:
    """Tells whether the process group is up, so that a death fails the next collective."""
    from torch import distributed

    return distributed.is_available() and distributed.is_initialized()


def _end_by_force(
    reason: str, processes: Processes, on_death: Callable[[str], None], tell: bool = True
) -> None:
    """Ends this process, whose main thread does not, and those that it started."""
    _start(_record, on_death, reason).join(RECORDING)  # a disk may hang as well
    if tell:
        print(f"error: {reason}", file=sys.stderr, flush=True)
    try:
        end(processes, patience=0)
    finally:
        os._exit(RunError.exit_code)


def _record(on_death: Callable[[str], None], reason: str) -> None:
    with suppress(OSError):  # the disk may be full; the reason is still shown
        on_death(reason)
