"""One command line as a value: what was typed, and how another process is told the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from forger.app.config.messages import near, typed

SCRIPT_NAMES = ("train", "evaluate", "generate")


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
        program: the command that starts this program again, before its arguments: Python with
            train.py, or with `-m forger train`.
        config_flags: flags as typed that say where config files lie.
    """

    config_dir: Path
    config_name: str
    overrides: tuple[str, ...]
    multirun: bool = False
    extra_config_dir: str | None = None
    script: str = "train"
    misspelt: tuple[tuple[str, tuple[str, ...]], ...] = ()
    program: tuple[str, ...] = ()
    config_flags: tuple[str, ...] = ()

    def has(self, key: str) -> bool:
        """Tells whether one of the overrides sets `key`, to whatever value."""
        return any(one.partition("=")[0].lstrip("+") == key for one in self.overrides)

    @property
    def resumes(self) -> bool:
        """Whether it goes on with a run; one that is misspelt is told so first."""
        if self.script != "train" or self.misspelt or not self.has("resume"):
            return False
        last = [one for one in self.overrides if one.partition("=")[0].lstrip("+") == "resume"][-1]
        return last.partition("=")[2] != "null"

    def arguments(self) -> list[str]:
        """Returns the arguments with which another process of this program does the same."""
        return [*self.config_flags, *(["--multirun"] if self.multirun else []), *self.overrides]

    def typed(self, script: str, *arguments: str) -> str:
        """Returns what one types next: `python evaluate.py run=logs/...`, ready for a shell.

        Args:
            script: `train`, `evaluate` or `generate`.
            arguments: after it.
        """
        return f"{type_program(self.program, script)} {typed(*arguments)}"


def type_program(program: tuple[str, ...], script: str) -> str:
    """Returns what one types for a script of this program, before its arguments.

    Args:
        program: see `Command`; empty in a notebook.
        script: `train`, `evaluate` or `generate`.
    """
    if program and program[-1] in SCRIPT_NAMES:  # of the installed `forger`
        return f"forger {script}"
    beside = near(Path(program[-1]).with_name(f"{script}.py")) if program else Path()
    return typed("python", str(beside) if beside.is_file() else f"{script}.py")
