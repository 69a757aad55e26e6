"""One command line as a value: what was typed, and how another process is told the same."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from forger.app.config.messages import near, quoted, typed

SCRIPT_NAMES = ("train", "evaluate", "generate", "explore", "report", "export")
PATHS = (  # settings that name files and folders
    *("paths.data_dir", "paths.cache_dir", "paths.log_dir", "data.root", "data.cache_dir"),
    *("metrics.inception_weights", "init_from", "resume", "sweep.resume"),
    *("run", "protocol", "output", "web_runtime"),
)
_UNREADABLE = object()


@dataclass(frozen=True)
class Command:
    """One command line.

    Attributes:
        config_dir: folder of the config files.
        config_name: of the main config in it.
        overrides: as Hydra reads them, such as `model=dcgan`.
        multirun: whether with `-m`.
        extra_config_dir: what `--config-dir` names.
        script: one of `SCRIPT_NAMES`, whatever `--config-name` says.
        misspelt: what was typed in another way than is right, with what to write.
        program: what starts this program again, before its arguments.
        config_flags: flags as typed that say where config files lie.
    """

    config_dir: Path
    config_name: str
    overrides: tuple[str, ...]
    multirun: bool = False
    extra_config_dir: str | None = None
    script: str = "train"
    misspelt: tuple[str, ...] = ()
    program: tuple[str, ...] = ()
    config_flags: tuple[str, ...] = ()

    def has(self, key: str) -> bool:
        """Tells whether one of the overrides sets `key`, to whatever value."""
        return any(one.partition("=")[0].lstrip("+") == key for one in self.overrides)

    @property
    def resumes(self) -> bool:
        """Whether it goes on with a run; one that is misspelt is told so first."""
        pairs = [one.lstrip("+").partition("=") for one in self.overrides]
        values = [value for key, _, value in pairs if key == "resume"]
        return self.script == "train" and not self.misspelt and values[-1:] not in ([], ["null"])

    def arguments(self) -> list[str]:
        """Returns the arguments with which another process of this program does the same."""
        return [*self.config_flags, *(["--multirun"] if self.multirun else []), *self.overrides]

    def typed(self, script: str, *arguments: str) -> str:
        """Returns what one types next: `python evaluate.py run=logs/...`, ready for a shell."""
        return f"{type_program(self.program, script)} {typed(*arguments)}"


def type_program(program: tuple[str, ...], script: str) -> str:
    """Returns what one types for a script of this program, before its arguments."""
    if program and program[-1] in SCRIPT_NAMES:  # of the installed `forger`
        return f"forger {script}"
    beside = near(Path(program[-1]).with_name(f"{script}.py")) if program else Path()
    return typed("python", str(beside) if beside.is_file() else f"{script}.py")


def text_of(override: str) -> str | None:
    """Returns the path that an override such as `resume='a,b'` names; `None` for `null`."""
    value = _read(override)
    text = value if isinstance(value, str) else override.partition("=")[2]
    return None if value is None else text.replace(r"\${", "${")


def expanded(text: str) -> str:
    """Returns a path with the home folder in place of `~`."""
    return str(Path(text).expanduser()) if text == "~" or text.startswith("~/") else text


def with_path_quoted(override: str) -> str:
    """Returns an override as Hydra's grammar reads it, where it names a path; `~` is expanded.

    Folders may be called anything: Hydra's own `override_dirname` writes commas and equals signs.
    What is there under the very name that was typed is meant, and what the grammar cannot read.
    """
    key, _, raw = override.partition("=")
    if key.lstrip("+") not in (*PATHS, "hydra.run.dir", "hydra.sweep.dir"):
        return override
    value, path = _read(override), expanded(raw)
    known = os.path.exists(path)  # noqa: PTH110 (no error for a name that is too long)
    if value is _UNREADABLE or (known and value not in (None, path)):
        return f"{key}={quoted(path)}"
    if isinstance(value, str) and value != expanded(value):
        return f"{key}={quoted(expanded(value), literal=False)}"
    return override


def _read(override: str) -> Any:
    """Returns the value that Hydra's grammar reads, if it can."""
    try:
        return OverridesParser.create().parse_override(override).value()
    except HydraException:
        return _UNREADABLE
