"""A run's folder: where it lies, what it records, and whether the run is alive, finished or failed.

Owns `config.yaml`, `overrides.yaml`, `environment.json` and `status.json`; metrics, samples and
checkpoints are written by callbacks and loggers.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning.fabric.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from forger.app.config.paths import expanded
from forger.app.distributed import launched
from forger.app.run.environment import describe_environment
from forger.app.run.status import read_status, write_status
from forger.secrets import looks_secret, masked
from forger.whole_files import write_whole


def is_main_process() -> bool:
    """Tells whether this process is the run's first and so the one that writes."""
    rank = getattr(rank_zero_only, "rank", None)  # None until Lightning knows of ranks
    return rank in (None, 0)


def find_folder(cfg: DictConfig) -> Path:
    """Returns the run's folder: Hydra's on the command line, a new name in a notebook."""
    if HydraConfig.initialized():
        return Path(HydraConfig.get().runtime.output_dir).absolute()
    stamp = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(3)}"
    return Path(expanded(cfg.paths.log_dir), cfg.name, stamp).absolute()


def without_secrets(node: Any) -> Any:
    """Returns a copy of plain config in which values under secret-looking keys are starred out."""
    if isinstance(node, dict):
        return {
            key: "***" if value is not None and looks_secret(str(key)) else without_secrets(value)
            for key, value in node.items()
        }
    return [without_secrets(value) for value in node] if isinstance(node, list) else node


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes the file whole or not at all."""
    write_whole(path, (json.dumps(content, indent=2) + "\n").encode())


class RunFolder:
    """The folder of one run.

    Args:
        cfg: the composed config, with the seed that is really used; with `resume`, that run's.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self.resumed = cfg.resume is not None
        self.path = Path(cfg.resume).absolute() if self.resumed else find_folder(cfg)
        own = OmegaConf.to_container(cfg, resolve=True)
        assert isinstance(own, dict)
        for name in ("trust", "moved"):  # of this command
            own.pop(name, None)
        self.config: dict[str, Any] = without_secrets(own | {"resume": None})
        self.environment: dict[str, Any] = {}
        self.choices: dict[str, Any] = {}  # of the run, also where another command resumes it
        self._began = datetime.now().astimezone()
        self._iteration, self._finished = 0, False
        earlier = (read_status(self.path) or {}) if self.resumed else {}
        self._first_began: str | None = earlier.get("started")
        self._seconds_before = float(earlier.get("seconds", 0.0))

    def record(self, iteration: int = 0) -> None:
        """Writes what the run is made from, or what it goes on with; the main process alone.

        Args:
            iteration: completed iterations of a resumed run.
        """
        if not is_main_process():
            return
        self._began = datetime.now().astimezone()  # what was prepared first is no training
        self.environment = describe_environment(self.config["seed"])
        words: list[str] = []
        if HydraConfig.initialized():
            hydra = HydraConfig.get()
            words = masked(hydra.overrides.task)
            self.environment["choices"] = self.choices = choices_of(hydra.runtime.choices)
        if launched.job.name is not None:
            self.environment["job"] = launched.job.name
        if self.resumed:
            self.choices = read_choices(self.path)
            self._record_resume(words, iteration)
        else:
            write_whole(self.path / "overrides.yaml", OmegaConf.to_yaml(words).encode())
            write_json(self.path / "environment.json", self.environment)
        # last: with it, the folder is that of a run
        write_whole(self.path / "config.yaml", OmegaConf.to_yaml(self.config).encode())
        self._iteration = iteration
        self.mark("running", None, iteration)

    def _record_resume(self, words: list[str], iteration: int) -> None:
        """Adds this continuation to `resumes.json`: what began the run stays as it was."""
        path = self.path / "resumes.json"
        earlier = json.loads(path.read_text())["resumes"] if path.is_file() else []
        began = self._began.isoformat(timespec="seconds")
        own = {"started": began, "iteration": iteration, "overrides": words}
        write_json(path, {"resumes": [*earlier, own | {"environment": self.environment}]})

    def mark(self, status: str, reason: str | None = None, iteration: int = 0) -> None:
        """Writes `status.json`.

        Args:
            status: `running`, `finished`, `pruned`, `failed` or `interrupted`.
            reason: why it ended before its time.
            iteration: completed iterations.
        """
        if not is_main_process() or self._finished:
            return
        self._finished = status == "finished"  # whatever happens to other processes then
        now = datetime.now().astimezone()
        seconds = self._seconds_before + (now - self._began).total_seconds()
        write_status(
            self.path,
            {
                "status": status,
                "reason": reason,
                "iteration": max(iteration, self._iteration),  # a Trainer counts once it has loaded
                "started": self._first_began or self._began.isoformat(timespec="seconds"),
                "updated": now.isoformat(timespec="seconds"),
                "seconds": round(seconds, 1),
            },
        )


def read_choices(folder: Path) -> dict[str, Any]:
    """Returns the choices that a run recorded; none where its record cannot be read."""
    try:
        recorded = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    choices = recorded.get("choices") if isinstance(recorded, dict) else None
    return choices if isinstance(choices, dict) else {}


def choices_of(choices: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the words that chose files, Hydra's own left out."""
    return {
        str(group): OmegaConf.to_container(word) if OmegaConf.is_config(word) else word
        for group, word in choices.items()
        if not str(group).startswith("hydra/")
    }
