"""How the present command was started: what a user types for it, and how to start it again."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Program:
    """The program of this process: a script such as train.py, or the installed `forger` command.

    Attributes:
        subcommand: what followed `forger`; empty for a script.
    """

    subcommand: tuple[str, ...] = ()

    def typed(self, name: str) -> str:
        """Returns what a user types for a command, before its settings.

        Args:
            name: `train`, `evaluate` or `generate`.
        """
        return f"forger {name}" if self.subcommand else f"python {name}.py"

    def again(self) -> list[str]:
        """Returns the arguments of Python that start this program again, before its settings."""
        spec = sys.modules["__main__"].__spec__
        start = [str(Path(sys.argv[0]).absolute())] if spec is None else ["-m", spec.name]
        return [*start, *self.subcommand]


program = Program()
