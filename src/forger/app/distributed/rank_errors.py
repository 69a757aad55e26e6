"""Why a process of a run ended, told to the others through `errors/rank_<n>.txt` in its folder.

Owns those files and the choice of the true reason among them; `forger.app.distributed.ranks`
watches the processes. Imports neither torch nor anything that does.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from subprocess import Popen
from typing import NamedTuple, TypeVar

from forger.app.distributed import meeting
from forger.app.distributed.meeting import Meeting
from forger.errors import UserError
from forger.whole_files import write_whole

VARIABLE = "FORGER_LAUNCHER"  # set for the processes that a run starts
PATIENCE = 3.0  # seconds in which a death that others felt shows itself

Answer = TypeVar("Answer")
Processes = Mapping[int, Popen[bytes]]  # by rank

_DETAILS = "\n\nin full:\n\n"  # between the reason and the traceback
# What torch.distributed raises where another process is gone. Gloo's errors have no type.
_COLLECTIVE = re.compile(
    r"(rank \d+: )?(Dist\w*Error:|RuntimeError: .*(gloo|nccl|c10d|closed by peer|reset by peer))",
    re.IGNORECASE | re.DOTALL,
)


class Launcher(NamedTuple):
    """The process that started this one as a rank above 0, and the folder of their run."""

    pid: int
    folder: Path

    def is_gone(self) -> bool:
        """Tells whether it ended; its children then belong to another process."""
        return os.getppid() != self.pid


def launcher() -> Launcher | None:
    """Returns what started this process as a rank above 0, if a run of ours did."""
    pid, _, folder = os.environ.get(VARIABLE, "").partition(" ")
    launched = pid.isdigit() and os.environ.get("LOCAL_RANK", "0") != "0"
    return Launcher(int(pid), Path(folder)) if launched else None


def reason_of(error: BaseException) -> str:
    """Words an error in a line: a user's mistake by its message, a bug with its type."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def is_consequence(reason: str) -> bool:
    """Tells whether a collective failed, as it does in each process when one of them dies."""
    return _COLLECTIVE.match(reason) is not None


def reason_file(folder: Path, rank: int) -> Path:
    """Returns where a rank's end is explained."""
    return folder / "errors" / f"rank_{rank}.txt"


def write_reason(folder: Path, rank: int, reason: str, details: str = "") -> bool:
    """Writes why a rank ended, whole or not at all, and tells whether it could."""
    try:
        write_whole(
            reason_file(folder, rank), f"{reason}{details and _DETAILS + details}\n".encode()
        )
    except OSError:  # a full disk, perhaps the very reason
        return False
    return True


def write_error(folder: Path, rank: int, error: BaseException) -> bool:
    """Writes a rank's own error with its traceback, and tells whether it could."""
    details = "".join(traceback.format_exception(error))
    return write_reason(folder, rank, f"rank {rank}: {reason_of(error)}", details)


def clear_reasons(folder: Path) -> None:
    """Removes what an earlier start in the same folder left."""
    for path in (folder / "errors").glob("rank_*.txt"):
        with suppress(OSError):
            path.unlink()


def causes(folder: Path) -> list[str]:
    """Returns why ranks ended, the first first, without what only followed from another's end."""
    found: list[tuple[float, str]] = []
    for path in (folder / "errors").glob("rank_*.txt"):
        with suppress(OSError):
            reason = path.read_text(errors="replace").partition(_DETAILS)[0].strip()
            found.append((path.stat().st_mtime, reason))
    return [reason for _, reason in sorted(found) if not is_consequence(reason)]


def ending(rank: int, code: int) -> str:
    """Words how a process ended that left no reason."""
    if code >= 0:
        return f"rank {rank} ended with exit code {code}; its output says why"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    hint = "; so does Linux when memory runs out" if name == "SIGKILL" else ""
    return f"rank {rank} was killed by {name}{hint}"


def cause_of_death(folder: Path, processes: Processes) -> str | None:
    """Returns why a rank ended: its own words, or how its process did; `None`: none has ended.

    Notes for the others what a killed one could not say itself.
    """
    polled = {rank: process.poll() for rank, process in processes.items()}
    codes = {rank: code for rank, code in polled.items() if code is not None}
    for rank, code in codes.items():
        if code < 0 and not reason_file(folder, rank).exists():
            write_reason(folder, rank, ending(rank, code))
    told = causes(folder)
    if told or not codes:
        return told[0] if told else None
    # killed ones first: others may have ended with a code because of them
    return ending(*min(codes.items(), key=lambda item: (item[1] >= 0, item[1] == 0, item[0])))


def true_reason(error: BaseException, folder: Path, processes: Processes) -> str:
    """Returns why a run failed: a dead rank's own error before the collective's that followed.

    Args:
        error: what this process caught.
        folder: the run's.
        processes: that this one started.
    """
    own, met = reason_of(error), meeting.present()
    if not is_consequence(own):
        return own
    if met is not None:
        return wait_for(met.cause_of_death) or own
    # the connection is closed before the process that held it is seen as ended
    return wait_for(lambda: cause_of_death(folder, processes)) or own


def hand_over(error: BaseException) -> None:
    """Leaves an error of a rank above 0 to the process that started it; elsewhere does nothing.

    A bug returns, to be shown here with its traceback. What rank 0 will show, and what only
    followed from another's end, needs no second telling: it ends the process.

    Raises:
        SystemExit: there is nothing more to say here.
    """
    above, met = launcher(), meeting.present()
    if met is not None and met.own.rank != 0:
        _hand_over_to(met, error)
    if above is None:
        return
    rank = int(os.environ["LOCAL_RANK"])
    if is_consequence(reason_of(error)) and wait_for(
        lambda: above.is_gone() or causes(above.folder)
    ):
        if above.is_gone() and not causes(above.folder):
            say_orphaned(rank)
        raise SystemExit(1) from None
    written = write_error(above.folder, rank, error)
    if written and isinstance(error, UserError) and not above.is_gone():
        raise SystemExit(error.exit_code) from None


def _hand_over_to(met: Meeting, error: BaseException) -> None:
    """Leaves an error to rank 0 of a run whose processes were launched from outside."""
    reason = reason_of(error)
    consequence = is_consequence(reason)
    if not consequence:
        met.tell(f"{met.name}: {reason}")
    elif met.own.speaks:
        reason = wait_for(met.cause_of_death) or reason.splitlines()[0]
    if met.own.speaks and (consequence or isinstance(error, UserError)):
        print(f"[rank {met.own.rank}] {reason}", file=sys.stderr, flush=True)
    if consequence or isinstance(error, UserError):
        raise SystemExit(getattr(error, "exit_code", 1)) from None


def say_orphaned(rank: int) -> None:
    """Tells the user what rank 0, killed, could not."""
    print(f"[rank {rank}] rank 0 is gone, so this one ends too", file=sys.stderr, flush=True)


def wait_for(what: Callable[[], Answer]) -> Answer:
    """Returns the first true answer within `PATIENCE` seconds, or the last one."""
    until = time.monotonic() + PATIENCE
    while not (answer := what()) and time.monotonic() < until:
        time.sleep(0.1)
    return answer
