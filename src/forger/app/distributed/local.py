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

_SAVING = 3600  # seconds in which processes that a signal has reached may save; torch's default: 30


class ProcessFailedError(UserError):
    """One of the processes failed: why, the class of its error, and its exit code."""

    def __init__(self, reason: str, kind: str, exit_code: int) -> None:
        super().__init__(reason)
        self.kind, self.exit_code = kind, exit_code


def run_processes(program: Sequence[str], count: int) -> None:
    """Runs a program as several processes, passes signals on to them, and waits for their end.

    A `ProcessFailedError`: one of them failed, and the others were ended. `Interrupted`: a signal.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    def stop(number: int, _: FrameType | None) -> None:  # as torch does for SIGTERM and Ctrl-C
        raise SignalException(f"signal {number}", signal.Signals(number))

    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(_SAVING))
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
        code, told = failures[rank].exitcode, failures[rank].error_file_data
        if code < 0:
            return code == -signal.SIGTERM, failures[rank].timestamp  # by which others end
        return told.get("follows", True), told.get("time", failures[rank].timestamp)

    rank = min(failures, key=order)
    code, told = failures[rank].exitcode, failures[rank].error_file_data
    if code > 128:
        return Interrupted(code - 128)
    reason: str | None = told.get("reason")
    if code < 0:
        hint = "; so does Linux when memory runs out" if code == -signal.SIGKILL else ""
        reason = f"rank {rank} was killed by {signal.Signals(-code).name}{hint}"
    elif reason is None:
        reason = f"rank {rank} ended with exit code {code}; its output says why"
    elif 0 not in failures or failures[0].error_file_data.get("reason") != reason:
        reason = f"rank {rank}: {reason}"  # else all failed alike, or rank 0 alone
    return ProcessFailedError(reason, told.get("kind", "ProcessFailedError"), max(code, 1))


def write_error_file(
    reason: str, code: int, *, follows: bool, kind: str = "", details: str = ""
) -> None:
    """Writes why this process fails, for what launched it; does nothing in a process alone.

    `follows` tells whether it fails only because of another process's end.
    """
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        now = time.time()
        extra = {"py_callstack": details or reason, "timestamp": str(int(now))}
        message = {"message": reason, "errorCode": code, "extraInfo": extra}  # as torch reads it
        own = {"reason": reason, "kind": kind, "follows": follows, "time": now}
        with suppress(OSError):  # a full disk
            Path(path).write_text(json.dumps({"message": message, **own}))
