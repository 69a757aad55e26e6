"""One command line as a value: what was typed, and how another process is told the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Command:
    """One command line.

    Attributes:
        config_dir: folder of the config files.
        config_name: of the main config in it.
        overrides: as Hydra reads them, such as `model=dcgan`.
        multirun: whether with `-m`.
        extra_config_dir: what `--config-dir` names.
        script: `train`, `evaluate` or `generate`: the main config that the script reads, whatever
            `--config-name` says.
        misspelt: what was typed in another way than is right, with what to write; each with the
            overrides that it means, which are among the others.
        program: the command that starts this program again, before its arguments.
    """

    config_dir: Path
    config_name: str
    overrides: tuple[str, ...]
    multirun: bool = False
    extra_config_dir: str | None = None
    script: str = "train"
    misspelt: tuple[tuple[str, tuple[str, ...]], ...] = ()
    program: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        """Returns the arguments with which another process does the same."""
        flags = ["--config-path", str(self.config_dir), "--config-name", self.config_name]
        if self.extra_config_dir is not None:
            flags += ["--config-dir", self.extra_config_dir]
        if self.multirun:
            flags += ["--multirun"]
        return [*flags, *self.overrides]
