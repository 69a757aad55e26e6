"""The command that installs the packages which only some settings need."""

from __future__ import annotations

from pathlib import Path

_CLONE = Path(__file__).parents[2]


def install_command(extra: str) -> str:
    """Returns what to type for an extra of pyproject.toml, in a clone and elsewhere."""
    if (_CLONE / "pyproject.toml").is_file():
        return f'pip install -e ".[{extra}]"'
    return f'pip install "forger-gan[{extra}]"'
