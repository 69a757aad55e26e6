"""Settings of a composed config: put in one by one, and their paths made absolute."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

# Hydra 1.3 stops at the first mistake unless it is given one override at a time
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf, flag_override, open_dict
from omegaconf.errors import OmegaConfBaseException

from forger.app.config.command import PATHS, expanded
from forger.app.config.hints import what_to_write
from forger.app.config.messages import choice, nearest
from forger.app.config.overrides import with_first_value
from forger.app.config.sections import RECIPES
from forger.app.config.signatures import signature_of
from forger.app.config.values import is_related, reason_of


def put_settings(
    cfg: DictConfig, settings: Iterable[Override], folder: Path | None = None
) -> tuple[list[str], list[Override]]:
    """Has Hydra put settings into a config one by one, so that no mistake hides another.

    Args:
        cfg: the composed config; it is changed.
        settings: in the order typed.
        folder: of train.py's config files, for hints.

    Returns:
        What is wrong, one line each, and the settings that no file lists: they are put in too, for
        the check to say whether they mean something.
    """
    problems: list[str] = []
    unlisted: list[Override] = []
    put: list[Override] = []
    for override in map(with_first_value, settings):
        mistake = None
        try:
            with flag_override(cfg, "struct", True):
                ConfigLoaderImpl._apply_overrides_to_config([override], cfg)
        except (HydraException, OmegaConfBaseException, ValueError, TypeError) as error:
            mistake = _mistake(cfg, override, error, folder)
            if mistake is None:
                mistake = _add(cfg, override)
                unlisted += [] if mistake else [override]
        if mistake is None:
            put.append(override)
        else:
            problems.append(f"{override.input_line}: {mistake}")
    return problems + list(_overwritten(cfg, put)), unlisted


def _mistake(
    cfg: DictConfig, override: Override, error: Exception, folder: Path | None
) -> str | None:
    """Says why Hydra could not put a setting in; `None`: no file lists it."""
    key, value = override.key_or_group, override.value()
    raw: Any = OmegaConf.to_container(cfg, resolve=False)
    raw.pop("hydra", None)
    found, node, missing = _descend(raw, key)
    if missing is None and override.is_add():
        return f"is already there; write {str(override.input_line).lstrip('+')}"
    if missing is None and override.is_delete():
        there = "is null, which Hydra cannot remove; leave it as it is"
        return there if node is None else f"has another value; write ~{key}"
    if missing is None or override.is_add() or override.is_force_add():
        return reason_of(error.__cause__ if isinstance(error.__cause__, Exception) else error)
    if not isinstance(node, (dict, list)):
        return f"{found} is a value and has no settings of its own"
    siblings = list(map(str, node)) if isinstance(node, dict) else []
    if override.is_delete():
        return "there is nothing to remove" + nearest(missing, siblings)
    if found:
        return None
    meant = what_to_write(cfg, folder, key, value)
    known = choice(missing, [*siblings, *(RECIPES if folder is not None else ())])
    return f"is no setting by itself; write {meant}" if meant else f"unknown setting{known}"


def _descend(raw: Any, key: str) -> tuple[str, Any, str | None]:
    """Follows a key: as far as it leads, what is there, and the first part that is not."""
    node, found = raw, list[str]()
    for part in key.split("."):
        if isinstance(node, dict) and part in node:
            node = node[part]
        elif isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        else:
            return ".".join(found), node, part
        found.append(part)
    return key, node, None


def _add(cfg: DictConfig, override: Override) -> str | None:
    try:
        OmegaConf.update(cfg, override.key_or_group, override.value(), merge=True, force_add=True)
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        return reason_of(error)
    return None


def _overwritten(cfg: DictConfig, settings: Sequence[Override]) -> Iterator[str]:
    """Yields a complaint for each setting that a later one made void; Hydra takes the last."""
    raw = OmegaConf.to_container(cfg, resolve=False) if len(settings) > 1 else {}
    for place, override in enumerate(settings):
        key = override.key_or_group
        for later in settings[place + 1 :]:
            other = later.key_or_group
            if not is_related(key, other):
                continue
            _, node, missing = _descend(raw, key)
            gone = missing is not None
            if override.is_delete() != gone or not (gone or _holds(node, override.value())):
                later_one = f"is overwritten by {later.input_line}"
                yield f"{override.input_line}: {later_one}; leave one of them out"
                break


def _holds(node: Any, value: Any) -> bool:
    """Tells whether a value is there; of a mapping, which is merged, all that it names."""
    if isinstance(value, dict) and isinstance(node, dict):
        return all(name in node and _holds(node[name], item) for name, item in value.items())
    return type(value) is type(node) and bool(value == node or value != value)


def with_absolute_paths(cfg: DictConfig) -> DictConfig:
    """Returns a copy in which paths do not depend on the working directory, `~` expanded.

    Those are the settings that name paths, and what a data module of the user's own annotates as
    `Path`.
    """
    cfg = cfg.copy()
    for key in (*PATHS, *_of_the_data(cfg)):
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
