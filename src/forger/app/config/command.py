"""One command line as a value: what was typed, and how another process is told the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from forger.app.config.messages import near, quoted, typed

SCRIPT_NAMES = ("train", "evaluate", "generate")
PATHS = (  # settings that name files and folders
    *("paths.data_dir", "paths.cache_dir", "paths.log_dir", "data.root", "data.cache_dir"),
    *("metrics.inception_weights", "init_from", "resume", "sweep.resume"),
    *("run", "protocol", "output"),
)


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


_UNREADABLE, _SEVERAL = object(), object()


def is_path(key: str) -> bool:
    """Tells whether a setting names a file or folder."""
    return key.lstrip("+") in (*PATHS, "hydra.run.dir", "hydra.sweep.dir")


def text_of(override: str) -> str | None:
    """Returns the path that an override such as `resume='a,b'` names; `None` for `null`."""
    value = _read(override)
    text = value if isinstance(value, str) else override.partition("=")[2]
    return None if value is None else text.replace(r"\${", "${")


def expanded(text: str) -> str:
    """Returns a path with the home folder in place of `~`; a folder may be called `~x`, too."""
    if not text.startswith("~"):
        return text
    try:
        home = str(Path(text).expanduser())
    except RuntimeError:  # no such user
        home = text
    return str(Path(text).absolute()) if home == text or Path(text).exists() else home


def with_path_quoted(override: str) -> str:
    """Returns an override as Hydra's grammar reads it, where it names a path; `~` is expanded.

    Folders may be called anything: Hydra's own `override_dirname` writes commas and equals signs.
    What is there under the very name that was typed is meant, and what the grammar cannot read.
    """
    key, _, raw = override.partition("=")
    value = _read(override) if is_path(key) else None
    if value is None:
        return override
    if value is _UNREADABLE or (_exists(raw) and value != expanded(raw)):
        return f"{key}={quoted(expanded(raw))}"
    if isinstance(value, str) and value != expanded(value):
        return f"{key}={quoted(expanded(value), literal=False)}"
    return override


def _read(override: str) -> Any:
    """Returns the value that Hydra's grammar reads, or that there are several, or none."""
    try:
        found = OverridesParser.create().parse_override(override)
        return _SEVERAL if found.is_sweep_override() else found.value()
    except HydraException:
        return _UNREADABLE


def _exists(text: str) -> bool:
    try:
        return bool(text) and Path(expanded(text)).exists()
    except (OSError, ValueError):  # a name that no file can have
        return False
