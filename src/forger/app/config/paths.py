"""Settings that name files and folders: how they are typed, and what they are recorded as."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from forger.app.config.messages import quoted
from forger.app.config.signatures import signature_of

KEYS = (
    *("paths.data_dir", "paths.cache_dir", "paths.log_dir", "data.root", "data.cache_dir"),
    *("metrics.inception_weights", "init_from", "resume", "sweep.resume"),
    *("run", "protocol", "output"),
)
_TYPED = (*KEYS, "hydra.run.dir", "hydra.sweep.dir")
_UNREADABLE, _SEVERAL = object(), object()


def is_path(key: str) -> bool:
    """Tells whether a setting names a file or folder."""
    return key.lstrip("+") in _TYPED


def text_of(word: str) -> str | None:
    """Returns the path that a word such as `resume='a,b'` names; `None` for `null`."""
    value = _read(word)
    raw = word.partition("=")[2]
    text = value if isinstance(value, str) else raw
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


def as_hydra_reads(word: str, *, sweep: bool, once: bool) -> str:
    """Returns a word as Hydra's grammar reads it, where it names a path; `~` is expanded.

    Folders may be called anything: Hydra's own `override_dirname` writes commas and equals signs.
    What is there under the very name that was typed is meant; else what the grammar makes of it,
    and where it cannot read it, what was typed.

    Args:
        word: of a command.
        sweep: whether commas may separate the values of several jobs.
        once: whether the script has no sweeps.
    """
    key, _, raw = word.partition("=")
    if not is_path(key):
        return word
    value, run = _read(word), key == "run"
    pieces = _pieces(raw) if sweep else []
    if value is None or (len(pieces) > 1 and value is _SEVERAL and all(map(_exists, pieces))):
        return word
    if _exists(raw):
        return word if value == expanded(raw) else f"{key}={quoted(expanded(raw))}"
    if isinstance(value, str):
        same = value == expanded(value)
        return word if same else f"{key}={quoted(expanded(value), literal=False)}"
    if value is _SEVERAL and (run or not once):
        return word
    if run and raw[:1] == "[" and raw[-1:] == "]":
        paths = value if isinstance(value, list) else _pieces(raw[1:-1])
        return f"{key}=[{','.join(quoted(expanded(str(path))) for path in paths)}]"
    if len(pieces) > 1:
        return f"{key}={','.join(quoted(expanded(path)) for path in pieces)}"
    return f"{key}={quoted(expanded(raw))}"


def with_absolute_paths(cfg: DictConfig) -> DictConfig:
    """Returns a copy in which paths do not depend on the working directory, `~` expanded.

    Those are the settings that name paths, and what a data module of the user's own annotates as
    `Path`.
    """
    cfg = cfg.copy()
    for key in (*KEYS, *_of_the_data(cfg)):
        owner, _, name = key.rpartition(".")
        node = OmegaConf.select(cfg, owner) if owner else cfg
        if not isinstance(node, DictConfig) or name not in node or OmegaConf.is_missing(node, name):
            continue
        with open_dict(node):
            if isinstance(node[name], str) and node[name] != "last":
                value = _absolute(node[name])
                if value != node[name]:
                    node[name] = value
            elif isinstance(node[name], ListConfig):
                node[name] = [_absolute(str(path)) for path in node[name]]
    return cfg


def _of_the_data(cfg: DictConfig) -> Iterator[str]:
    """Yields the settings of the data that its signature annotates with `Path`."""
    signature = signature_of(OmegaConf.select(cfg, "data._target_"))
    for name, parameter in {} if isinstance(signature, str) else signature.parameters.items():
        names = ast.walk(parameter.annotation) if parameter.annotation else ()
        if any(isinstance(node, ast.Name) and node.id == "Path" for node in names):
            yield f"data.{name}"


def _read(word: str) -> Any:
    """Returns the value that Hydra's grammar reads, or that there are several, or none."""
    try:
        override = OverridesParser.create().parse_override(word)
        return _SEVERAL if override.is_sweep_override() else override.value()
    except HydraException:
        return _UNREADABLE


def _pieces(text: str) -> list[str]:
    """Splits at commas, but not within the name of something that is there."""
    parts, found = text.split(","), []
    while parts:
        ends = (n for n in range(len(parts), 1, -1) if _exists(",".join(parts[:n])))
        end = next(ends, 1)
        found.append(",".join(parts[:end]).strip(" '\""))
        del parts[:end]
    return found


def _exists(text: str) -> bool:
    try:
        return bool(text) and Path(expanded(text)).exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _absolute(text: str) -> str:
    return str(Path(expanded(text)).absolute()) if text.strip() else text
