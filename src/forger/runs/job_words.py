"""The words that run one job of a command again, alone. Owns the choice among the command's.

Imports neither torch nor anything that does: processes that only start others use it.
"""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig

_FLAGS_WITH_VALUE = ("--config-name", "-cn", "--config-path", "-cp", "--config-dir", "-cd")
_OF_THE_SWEEP = (
    *("hydra.sweep.", "hydra.sweeper", "hydra/sweeper", "hydra.launcher", "hydra/launcher"),
    *("hydra.run.dir", "hydra.mode", "hydra.job.env_set.FORGER_JOB"),
)


def config_flags(arguments: list[str]) -> list[str]:
    """Returns the flags that say which config is meant, with their values."""
    flags: list[str] = []
    for here, following in zip(arguments, [*arguments, ""][1:], strict=True):
        name, given, _ = here.partition("=")
        if name in _FLAGS_WITH_VALUE:
            flags += [here] if given else [here, following]
    return flags


def job_words() -> list[str]:
    """Returns the words of the present job, without those that make it one of a sweep."""
    hydra = HydraConfig.get()
    kept = [w for w in hydra.overrides.hydra if not w.lstrip("+~").startswith(_OF_THE_SWEEP)]
    return [*hydra.overrides.task, *kept, "hydra.mode=RUN"]


def quoted(path: Path) -> str:
    """Returns a path as a value that Hydra's grammar reads, whatever it contains."""
    escaped = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
