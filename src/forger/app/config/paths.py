"""Settings that name files and folders: how they are typed, and what they are recorded as."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from forger.app.config.messages import quoted
from forger.app.config.signatures import signature_of

_KEYS = (
    *("paths.data_dir", "paths.cache_dir", "paths.log_dir", "data.root", "data.cache_dir"),
    *("metrics.inception_weights", "init_from", "resume", "sweep.resume"),
    *("run", "protocol", "output"),
)
_UNREADABLE, _SEVERAL = object(), object()


def is_path(key: str) -> bool:
    """Tells whether a setting names a file or folder."""
    return key.lstrip("+") in (*_KEYS, "hydra.run.dir", "hydra.sweep.dir")


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


def with_absolute_paths(cfg: DictConfig) -> DictConfig:
    """Returns a copy in which paths do not depend on the working directory, `~` expanded.

    Those are the settings that name paths, and what a data module of the user's own annotates as
    `Path`.
    """
    cfg = cfg.copy()
    for key in (*_KEYS, *_of_the_data(cfg)):
        owner, _, name = key.rpartition(".")
        node = OmegaConf.select(cfg, owner) if owner else cfg
        if not isinstance(node, DictConfig) or name not in node or OmegaConf.is_missing(node, name):
            continue
        value = node[name]
        with open_dict(node):
            if isinstance(value, ListConfig):
                node[name] = [_absolute(str(path)) for path in value]
            elif isinstance(value, str) and value != "last" and value != _absolute(value):
                node[name] = _absolute(value)
    return cfg


def _of_the_data(cfg: DictConfig) -> Iterator[str]:
    """Yields the settings of the data that its signature annotates with `Path`."""
    signature = signature_of(OmegaConf.select(cfg, "data._target_"))
    for name, parameter in {} if isinstance(signature, str) else signature.parameters.items():
        if Path in (parameter.hint, *get_args(parameter.hint)):
            yield f"data.{name}"


def _absolute(text: str) -> str:
    return str(Path(expanded(text)).absolute()) if text.strip() else text
