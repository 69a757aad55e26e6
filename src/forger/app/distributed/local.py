"""Runs a command as several processes of this machine, by torch's elastic launcher."""

from __future__ import annotations

import json
import logging
import os
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from forger.errors import Interrupted, UserError
from forger.processes import LOCAL

_FILE = "TORCHELASTIC_ERROR_FILE"  # the launcher tells it, and reads it when a process has failed
# Seconds in which processes that a signal has reached may save; torch's default is 30.
_SAVING = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "3600"}


class ProcessFailedError(UserError):
    """One of the processes failed.

    Args:
        reason: of the first one that did.
        kind: class name of its error.
        exit_code: its own, or 1 where a signal killed it.
    """

    def __init__(self, reason: str, kind: str, exit_code: int) -> None:
        super().__init__(reason)
        self.kind, self.exit_code = kind, exit_code


def run_processes(program: Sequence[str], count: int) -> None:
    """Runs a program as several processes, and waits until all have ended.

    Signals are passed on to them. If one fails, the others are ended.

    Args:
        program: command and arguments.
        count: of processes.

    Raises:
        ProcessFailedError: one of them failed.
        Interrupted: a signal ended them.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    def stop(number: int, _: FrameType | None) -> None:  # as torch does for SIGTERM and Ctrl-C
        raise SignalException(f"signal {number}", signal.Signals(number))

    os.environ |= {name: value for name, value in _SAVING.items() if name not in os.environ}
    signal.signal(signal.SIGUSR1, stop)
    logging.disable(logging.ERROR)  # torch's own account of it
    with tempfile.TemporaryDirectory(prefix="forger_") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=LOCAL,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(config, program[0])(*program[1:])
        except ChildFailedError as error:
            raise _first_failure(error.failures) from None
        except SignalException as error:
            raise Interrupted(error.sigval) from None
        finally:
            logging.disable(logging.NOTSET)


def _first_failure(failures: Mapping[int, Any]) -> BaseException:
    """Returns the error of the process that failed first, not because of another one's end."""

    def order(rank: int) -> tuple[bool, float]:
        failure = failures[rank]
        if failure.exitcode < 0:
            return failure.exitcode == -signal.SIGTERM, failure.timestamp  # by which others end
        told = failure.error_file_data
        return told.get("follows", True), told.get("time", failure.timestamp)

    rank = min(failures, key=order)
    told = failures[rank].error_file_data
    if 0 in failures and failures[0].error_file_data.get("reason") == told.get("reason"):
        rank = 0  # of a failure of all alike
    code = failures[rank].exitcode
    if code > 128:
        return Interrupted(code - 128)
    reason, kind = _reason(rank, code, told.get("reason")), told.get("kind", "ProcessFailedError")
    return ProcessFailedError(reason, kind, code if code > 0 else 1)


def _reason(rank: int, code: int, told: str | None) -> str:
    if told is not None:
        return told if rank == 0 else f"rank {rank}: {told}"
    if code >= 0:
        return f"rank {rank} ended with exit code {code}; its output says why"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    hint = "; so does Linux when memory runs out" if name == "SIGKILL" else ""
    return f"rank {rank} was killed by {name}{hint}"


def write_error_file(
    reason: str, code: int, *, follows: bool, kind: str = "", details: str = ""
) -> None:
    """Writes why this process fails, for what launched it; does nothing in a process alone.

    Args:
        reason: in a line.
        code: exit code.
        follows: whether it is only because of another process's end.
        kind: class name of the error.
        details: a traceback.
    """
    if path := os.environ.get(_FILE):
        now = time.time()
        extra = {"py_callstack": details or reason, "timestamp": str(int(now))}
        message = {"message": reason, "errorCode": code, "extraInfo": extra}  # as torch reads it
        own = {"reason": reason, "kind": kind, "follows": follows, "time": now}
        with suppress(OSError):  # a full disk
            Path(path).write_text(json.dumps({"message": message, **own}))
