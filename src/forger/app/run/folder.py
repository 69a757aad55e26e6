"""A run's folder: its name, its lock, what it records, and whether the run lives or how it ended.

Imports neither torch nor anything that does: the command line and sweeps ask too.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from forger.app.config.command import expanded
from forger.errors import ConfigError
from forger.processes import rank
from forger.secrets import masked, without_secrets
from forger.whole_files import remove_leftovers, write_json, write_whole

LOCK = ".lock"
_PATIENCE = 2.0  # seconds: who only asks whether a folder is locked takes its lock for a moment


def run_name(_root_: DictConfig) -> str:
    """Names a run by the chosen model, loss and data, and the seed where it is given."""
    choices = OmegaConf.select(_root_, "hydra.runtime.choices") or {}
    parts = [str(choices[group]) for group in ("model", "loss", "data") if choices.get(group)]
    if (seed := OmegaConf.select(_root_, "seed")) is not None:
        parts.append(f"s{seed}")
    return re.sub(r"[^\w.+-]+", "_", "-".join(parts)) or "run"


def is_main_process() -> bool:
    """Tells whether this process is the run's first and so the one that writes."""
    return rank() == 0


def missing_folders(folder: Path) -> list[Path]:
    """Returns which of a folder and those that it lies in are not there, the innermost first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def is_empty(folder: Path) -> bool:
    """Tells whether nothing is in a folder, or there is none."""
    return not folder.is_dir() or not any(folder.iterdir())


@contextmanager
def file_lock(path: Path) -> Iterator[int | None]:
    """Holds a file's lock, which ends with its process, however that ends.

    Yields:
        The file's descriptor, with which a process that is started holds the lock too, until it
        ends; `None` where another process holds the lock.
    """
    with path.open("a") as file:
        until = time.monotonic() + _PATIENCE
        while not (own := _lock(file.fileno(), fcntl.LOCK_EX)) and time.monotonic() < until:
            time.sleep(0.01)
        yield file.fileno() if own else None


def is_locked(path: Path) -> bool:
    """Tells whether a process holds the lock of a file, which may be missing."""
    try:
        with path.open("r") as file:
            return not _lock(file.fileno(), fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def _lock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks keeps nobody out
        pass
    return True


@contextmanager
def locked(folder: Path, refusal: str | None = None) -> Iterator[None]:
    """Holds the folder of a run or a sweep for this process.

    Raises:
        ConfigError: another process holds it; the message is `refusal`, or that it trains there.
    """
    with file_lock(folder / LOCK) as descriptor:
        if descriptor is None:
            raise ConfigError(refusal or being_trained(folder))
        yield


def being_trained(folder: Path) -> str:
    """Returns the message for a run that another process trains."""
    status = read_status(folder) or {}
    who = f" by process {status['pid']} on {status['host']}" if "pid" in status else ""
    return f"resume={folder}: is being trained{who}; stop that first, or wait for its end"


def read_status(folder: Path) -> dict[str, Any] | None:
    """Returns what a run's `status.json` says, `None` where there is none.

    A run that was killed had no time to write: `running` without a process that holds the folder
    reads as `interrupted`. Process numbers are used again, and prove nothing.
    """
    try:
        content: dict[str, Any] = json.loads((folder / "status.json").read_text())
    except (OSError, ValueError):
        return None
    if content.get("status") == "running" and not is_locked(folder / LOCK):
        content |= {"status": "interrupted", "reason": "its process is gone: killed, or a crash"}
    return content


def read_choices(folder: Path) -> dict[str, Any]:
    """Returns the choices that a run recorded; none where its record cannot be read."""
    try:
        recorded = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
        return dict(recorded["choices"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


class RunFolder:
    """The folder of one run. The main process alone writes into it.

    Args:
        cfg: the composed config, with the seed that is really used; with `resume`, that run's.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self.resumed = cfg.resume is not None
        self.path = Path(cfg.resume).absolute() if self.resumed else _new_folder(cfg)
        own: Any = OmegaConf.to_container(cfg, resolve=True)
        own = {key: value for key, value in own.items() if key not in ("trust", "moved")}
        self.config: dict[str, Any] = without_secrets(own | {"resume": None})
        self.environment: dict[str, Any] = {}
        self.choices: dict[str, Any] = {}  # of the run, also where another command resumes it
        self._began = _now()
        self._iteration, self._finished = 0, False
        earlier = (read_status(self.path) or {}) if self.resumed else {}
        self._first_began: str | None = earlier.get("started")
        self._seconds_before = float(earlier.get("seconds", 0.0))

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Makes the folder, keeps other runs out of it, and removes what a killed one left.

        Raises:
            ConfigError: another process trains there.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if not is_main_process():
            yield
            return
        with locked(self.path):
            for inside in ("", "checkpoints", "samples"):
                remove_leftovers(self.path / inside, older_than=0)
            yield

    def record(self, environment: Mapping[str, Any], iteration: int = 0) -> None:
        """Writes what the run is made from, or what it goes on with after so many iterations."""
        if not is_main_process():
            return
        self._began = _now()  # what was prepared first is no training
        self._iteration = iteration
        self.environment, overrides = dict(environment), list[str]()
        if HydraConfig.initialized():
            hydra: Any = OmegaConf.to_container(HydraConfig.get())
            overrides, chosen = masked(hydra["overrides"]["task"]), hydra["runtime"]["choices"]
            self.choices = {k: chosen[k] for k in chosen if not k.startswith("hydra/")}
            self.environment["choices"] = self.choices
        if self.resumed:  # what began the run stays as it was
            self.choices, path = read_choices(self.path), self.path / "resumes.json"
            earlier = json.loads(path.read_text())["resumes"] if path.is_file() else []
            own = {"started": self._began.isoformat(timespec="seconds"), "iteration": iteration}
            own |= {"overrides": overrides, "environment": self.environment}
            write_json(path, {"resumes": [*earlier, own]})
        else:
            write_whole(self.path / "overrides.yaml", OmegaConf.to_yaml(overrides).encode())
            write_json(self.path / "environment.json", self.environment)
        # last: with it, the folder is that of a run
        write_whole(self.path / "config.yaml", OmegaConf.to_yaml(self.config).encode())
        self.mark("running", None, iteration)

    def mark(
        self,
        status: str,
        reason: str | None = None,
        iteration: int = 0,
        error: str | None = None,
    ) -> None:
        """Writes `status.json`; a run that has finished stays so, whatever happens afterwards.

        Args:
            status: `running`, `finished`, `pruned`, `failed` or `interrupted`.
            reason: why it ended before its time.
            iteration: completed iterations.
            error: class name of what ended it.
        """
        if not is_main_process() or self._finished:
            return
        self._finished = status == "finished"
        now = _now()
        content = {
            "status": status,
            "reason": reason,
            "error": error,
            "iteration": max(iteration, self._iteration),  # a Trainer counts once it has loaded
            "started": self._first_began or self._began.isoformat(timespec="seconds"),
            "updated": now.isoformat(timespec="seconds"),
            "seconds": round(self._seconds_before + (now - self._began).total_seconds(), 1),
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        write_json(self.path / "status.json", content)


def _now() -> datetime:
    return datetime.now().astimezone()


def _new_folder(cfg: DictConfig) -> Path:
    """Returns a new run's folder: Hydra's on the command line, a new name in a notebook."""
    if HydraConfig.initialized():
        return Path(HydraConfig.get().runtime.output_dir).absolute()
    stamp = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(3)}"
    return Path(expanded(cfg.paths.log_dir), cfg.name, stamp).absolute()
