"""Settings from the command line, put into a composed config one by one.

Owns the same steps as Hydra's own, except that a mistake is noted and the next setting is tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from forger.app.config.messages import choice, nearest
from forger.app.config.values import reason_of


def apply(
    cfg: DictConfig,
    overrides: list[Override],
    groups: list[str],
    meant: Callable[[str, Any], str | None] | None = None,
) -> tuple[list[str], list[Override]]:
    """Puts settings into `cfg`.

    Args:
        cfg: the composed config; it is changed.
        overrides: settings, in the order typed.
        groups: the words that choose files, for hints.
        meant: says what to write instead of a key that is unknown at the top, and its value.

    Returns:
        What is wrong, one line each, and the settings that no file lists: they are put in too, for
        the check to say whether they mean something.
    """
    problems: list[str] = []
    unlisted: list[Override] = []
    put: list[Override] = []
    for override in overrides:
        mistake, listed = _mistake(cfg, override, groups, meant)
        if mistake is None and not listed:
            unlisted.append(override)
        if mistake is None:
            mistake = _put(cfg, override)
        if mistake is not None:
            problems.append(f"{override.input_line}: {mistake}")
        else:
            put.append(override)
    return problems + list(_overwritten(cfg, put)), unlisted


def _overwritten(cfg: DictConfig, overrides: list[Override]) -> Iterator[str]:
    """Yields a complaint for each setting that a later one made void; Hydra takes the last."""
    if len(overrides) < 2:
        return
    for place, override in enumerate(overrides):
        path = _parts(override.key_or_group)
        for later in overrides[place + 1 :]:
            other = _parts(later.key_or_group)
            shared = min(len(path), len(other))
            if path[:shared] == other[:shared] and not _holds(cfg, override):
                yield (
                    f"{override.input_line}: is overwritten by {later.input_line}; "
                    "leave one of them out"
                )
                break


def _holds(cfg: DictConfig, override: Override) -> bool:
    """Tells whether a setting has the value that it was given."""
    missing = _descend(cfg, override.key_or_group)[2]
    if override.is_delete() or missing is not None:
        return override.is_delete() == (missing is not None)
    return _holds_value(cfg, override.key_or_group, _value(override))


def _holds_value(cfg: DictConfig, key: str, value: Any) -> bool:
    node = _descend(cfg, key)[1]
    if isinstance(node, (DictConfig, ListConfig)):
        node = OmegaConf.to_container(node, resolve=False)
    return _within(value, node)


def _within(wanted: Any, found: Any) -> bool:
    """Tells whether a value is there; of a mapping, which is merged, all that it names."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(name in found and _within(wanted[name], found[name]) for name in wanted)
    return type(wanted) is type(found) and (wanted == found or wanted != wanted)


def _mistake(
    cfg: DictConfig,
    override: Override,
    groups: list[str],
    meant: Callable[[str, Any], str | None] | None,
) -> tuple[str | None, bool]:
    """Says what is wrong with a key, and whether the config already has it or it is added."""
    key = override.key_or_group
    found, node, missing = _descend(cfg, key)
    if missing is None:
        if (
            override.is_add()
            and not isinstance(_value(override), (dict, list))
            and node is not None
        ):
            return f"is already there; write {str(override.input_line).lstrip('+')}", True
        return None, True
    if not isinstance(node, (DictConfig, ListConfig)):
        return f"{found} is a value and has no settings of its own", True
    siblings = [str(name) for name in node] if isinstance(node, DictConfig) else []
    if override.is_delete():
        return "there is nothing to remove" + nearest(missing, siblings), True
    if override.is_add() or override.is_force_add():
        return None, True
    if not found:
        instead = None if meant is None else meant(key, _value(override))
        if instead is not None:
            return f"is no setting by itself; write {instead}", True
        return "unknown setting" + choice(missing, [*siblings, *groups]), True
    return None, False


def _parts(key: str) -> list[str]:
    return key.replace("[", ".").replace("]", "").split(".")


def _descend(cfg: DictConfig, key: str) -> tuple[str, Any, str | None]:
    """Follows a key: as far as it leads, what is there, and the first part that is not."""
    node: Any = cfg
    found: list[str] = []
    for part in _parts(key):
        if isinstance(node, DictConfig) and not node._is_none() and part in node._content:  # type: ignore[operator]
            node = node._get_node(part)
        elif isinstance(node, ListConfig) and part.isdigit() and int(part) < len(node):
            node = node._get_node(int(part))
        else:
            return ".".join(found), node, part
        found.append(part)
    return key, node._value() if not isinstance(node, (DictConfig, ListConfig)) else node, None


def _put(cfg: DictConfig, override: Override) -> str | None:
    key, value = override.key_or_group, _value(override)
    try:
        if override.is_delete():
            if _descend(cfg, key)[1] is None:
                return "is null, which Hydra cannot remove; leave it as it is"
            if value is not None and not _holds_value(cfg, key, value):
                return f"has another value; write ~{key}"
            owner, _, name = key.rpartition(".")
            with open_dict(cfg):
                del (OmegaConf.select(cfg, owner) if owner else cfg)[name]
            return None
        OmegaConf.update(cfg, key, value, merge=True, force_add=True)
    except (OmegaConfBaseException, TypeError, ValueError, AttributeError) as error:
        return reason_of(error)
    return None


def _value(override: Override) -> Any:
    """The value, or the first one of a sweep."""
    if not override.is_sweep_override():
        return override.value()
    return next(iter(override.sweep_iterator()), None) if override.is_discrete_sweep() else None
