"""A run's folder: where it lies, what it records, and whether the run is alive, finished or failed.

Owns `config.yaml`, `overrides.yaml`, `environment.json` and `status.json`; metrics, samples and
checkpoints are written by callbacks and loggers.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning.fabric.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from forger.runs.environment import describe_environment

SECRET_WORDS = ("api_key", "apikey", "token", "secret", "password")


def is_main_process() -> bool:
    """Tells whether this process is the run's first and so the one that writes."""
    rank = getattr(rank_zero_only, "rank", None)  # None until Lightning knows of ranks
    return rank in (None, 0)


def find_folder(cfg: DictConfig) -> Path:
    """Returns the run's folder: Hydra's on the command line, a new name in a notebook."""
    if HydraConfig.initialized():
        return Path(HydraConfig.get().runtime.output_dir).absolute()
    stamp = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(3)}"
    return Path(cfg.paths.log_dir, cfg.name, stamp).absolute()


def without_secrets(node: Any) -> Any:
    """Returns a copy of plain config in which values under secret-looking keys are starred out."""
    if isinstance(node, dict):
        return {
            key: "***"
            if value is not None and any(word in str(key).lower() for word in SECRET_WORDS)
            else without_secrets(value)
            for key, value in node.items()
        }
    return [without_secrets(value) for value in node] if isinstance(node, list) else node


def write_whole(path: Path, content: bytes) -> None:
    """Writes the file whole or not at all, also where two processes write it at once."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes the file whole or not at all."""
    write_whole(path, (json.dumps(content, indent=2) + "\n").encode())


class RunFolder:
    """The folder of one run.

    Args:
        cfg: the composed config, with the seed that is really used.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self.path = find_folder(cfg)
        self.config: dict[str, Any] = without_secrets(OmegaConf.to_container(cfg, resolve=True))
        self.environment: dict[str, Any] = {}
        self._started = datetime.now().astimezone()

    def record(self) -> None:
        """Writes what the run is made from; only the main process writes."""
        if not is_main_process():
            return
        self._started = datetime.now().astimezone()  # what was prepared first is no training
        overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
        self.environment = describe_environment(self.config["seed"])
        OmegaConf.save(self.config, self.path / "config.yaml")
        OmegaConf.save(list(overrides), self.path / "overrides.yaml")
        write_json(self.path / "environment.json", self.environment)
        self.mark("running")

    def mark(self, status: str, reason: str | None = None, iteration: int = 0) -> None:
        """Writes `status.json`.

        Args:
            status: `running`, `finished`, `failed` or `interrupted`.
            reason: why it failed or was interrupted.
            iteration: completed iterations.
        """
        if not is_main_process():
            return
        now = datetime.now().astimezone()
        content = {
            "status": status,
            "reason": reason,
            "iteration": iteration,
            "started": self._started.isoformat(timespec="seconds"),
            "updated": now.isoformat(timespec="seconds"),
            "seconds": round((now - self._started).total_seconds(), 1),
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        write_json(self.path / "status.json", content)
