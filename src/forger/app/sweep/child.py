"""A job in a process of its own: how it is started, awaited, asked to end, and what it answered.

Owns that process. What it is killed by, or leaves behind in memory, touches no other job.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from forger.app.sweep.record import read_json
from forger.whole_files import write_whole

ANSWER = "FORGER_ANSWER"  # the file in which a job tells how it ended
_POLL = 0.3  # seconds
# By these Lightning would take the job for one of several processes that SLURM started.
_OF_THE_LAUNCHER = ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")
_PATIENCE = 120.0  # seconds in which a job that was asked to end may save
_TAIL = 4000  # bytes of what a dead process said last


def answer(code: int, reason: str | None, error: str | None, value: float | None) -> None:
    """Tells the sweep that started this process how its job ended; does nothing without one.

    Args:
        code: the exit code.
        reason: why it did not finish.
        error: class name of what it raised.
        value: the metric that `objective` names.
    """
    path = os.environ.get(ANSWER)
    if path and os.environ.get("LOCAL_RANK", "0") == "0":
        import json

        content = {"code": code, "reason": reason, "error": error, "value": value}
        write_whole(Path(path), json.dumps(content).encode())


def run_child(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    cwd: Path,
    output: Path,
    ending: Callable[[], bool],
    kept_open: Sequence[int] = (),
) -> dict[str, Any]:
    """Runs a command to its end, and returns its status, reason, error and value.

    Args:
        command: of one training.
        environment: variables beside those of this process.
        cwd: where the sweep was started.
        output: file that takes what the command prints.
        ending: tells whether the command is to end now, its state saved.
        kept_open: descriptors that the command inherits.
    """
    answered = output.with_suffix(".answer")
    answered.unlink(missing_ok=True)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(_OF_THE_LAUNCHER)}
    own = {**inherited, **environment, ANSWER: str(answered)}
    with output.open("ab") as file:
        process = subprocess.Popen(
            command,
            env=own,
            cwd=cwd if cwd.is_dir() else None,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            pass_fds=kept_open,
            start_new_session=True,  # Ctrl-C reaches it through `ending` alone
        )
    with _deaf_to_interrupts():
        try:
            _await(process, ending)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    found = _read(answered, process.returncode, output)
    answered.unlink(missing_ok=True)
    return found


def _await(process: subprocess.Popen[bytes], ending: Callable[[], bool]) -> None:
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_POLL)
            return
        if ending():
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE)
            return


def _read(answered: Path, code: int, output: Path) -> dict[str, Any]:
    said = read_json(answered)
    if not said:
        number = -code if code < 0 else code - 128
        name = signal.Signals(number).name if number in set(signal.Signals) else f"code {code}"
        killed = code < 0 and -code in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
        if killed:
            return {"status": "interrupted", "reason": f"killed by {name}"}
        last = _last_line(output)
        return {"status": "failed", "reason": f"its process ended with {name}{last}"}
    kept = {name: said.get(name) for name in ("reason", "error", "value")}
    if said["code"] > 128:
        return {"status": "interrupted", **kept}
    if said["code"] == 0:
        return {"status": "pruned" if said.get("error") == "Pruned" else "finished", **kept}
    return {"status": "failed", **kept}


def _last_line(output: Path) -> str:
    try:
        content = output.read_bytes()[-_TAIL:].decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in content.splitlines() if line.strip()]
    return f": {lines[-1]}" if lines else ""


@contextmanager
def _deaf_to_interrupts() -> Any:
    """Leaves Ctrl-C to the process that launched the sweep, which has jobs save and end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
