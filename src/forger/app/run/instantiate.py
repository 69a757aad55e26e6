"""Builds the objects that a config describes, through Hydra's `instantiate`.

Imports nothing heavy itself, so that what only rebuilds a network need not wait for a Trainer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import hydra.utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from forger.app.config.messages import listed
from forger.app.config.source import TargetError, import_target, line_of
from forger.app.config.trust import PACKAGES
from forger.errors import ConfigError, UserError

_BROKEN = (ImportError, MemoryError, RuntimeError, TypeError, ValueError)
_HYDRA_KEYS = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}


def instantiate(node: Any, kind: Any = None, key: str | None = None, /, **runtime: Any) -> Any:
    """Builds the object that a node describes, with plain containers inside.

    Args:
        node: of the config; its target may be any callable.
        kind: class of what must come out; `None`: whatever does.
        key: the node's key in the config, where it does not know it itself.
        runtime: arguments beside those of the node.

    Raises:
        TargetError: a target cannot be imported or called so, or gives another kind of object.
        UserError: the object's own, without Hydra's wrapping.
    """
    if key is None:
        key = str(node._get_full_key(None)) if OmegaConf.is_config(node) else ""
    plain: Any = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    found, *_ = [_import(path, inner) for path, inner in _targets(plain, key)]
    target, names = str(plain["_target_"]), (plain.keys() | runtime.keys()) - _HYDRA_KEYS
    try:
        if plain.get("_partial_"):
            if signature := _signature(found):  # else its call would tell, once training begins
                signature.bind_partial(**dict.fromkeys(names))
            made = hydra.utils.instantiate(node, _convert_="all", **runtime)
        else:  # not by Hydra, which would make plain mappings of dataclasses among the arguments
            made = hydra.utils.instantiate(node, _convert_="all", _partial_=True)(**runtime)
    except (InstantiationException, *_BROKEN) as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) else error
        if isinstance(cause, UserError):
            raise cause from None
        if isinstance(cause, _BROKEN):
            raise TargetError(f"{key}: {target}: {line_of(cause)}", target) from cause
        raise
    if kind is not None and not isinstance(made, kind):
        reason = f"{key}: {target} gives {_a(made)}, and must give a {kind.__name__}"
        raise TargetError(reason, target)
    return made


@contextmanager
def all_refusals() -> Iterator[Callable[..., Any]]:
    """Yields a function that calls others and notes what they refuse, to raise all at the end.

    What was refused is None until then.
    """
    refused: list[ConfigError] = []

    def attempt(build: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        try:
            return build(*args, **kwargs)
        except ConfigError as error:
            refused.append(error)
            return None

    yield attempt
    if refused:
        several = len(refused) > 1
        raise ConfigError(listed([str(error) for error in refused])) if several else refused[0]


def import_targets(cfg: DictConfig) -> None:
    """Imports what a config names of the user's own, before there is any work to lose."""
    for path, node in _targets(OmegaConf.to_container(cfg, resolve=False), ""):
        target = str(node["_target_"])
        if "${" not in target and target.partition(".")[0] not in PACKAGES:
            _import(path, node)


def target_of(node: Any) -> Any:
    """Returns the class or function that a node's target names."""
    return _import(str(node._get_full_key(None)), node)


def takes(target: Any, name: str) -> bool:
    """Tells whether a callable takes an argument, a class perhaps through `**kwargs` of a base."""
    signature = _signature(target)
    if signature is None or name in signature.parameters:
        return signature is not None
    passes = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    bases = target.__mro__[1:-1] if isinstance(target, type) else ()
    return passes and any("__init__" in vars(base) and takes(base, name) for base in bases)


def _signature(target: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(target)
    except (TypeError, ValueError):  # written in C
        return None


def _targets(node: Any, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields every node with a target that would be built, itself first."""
    if isinstance(node, Mapping) and "_target_" in node:
        yield key, node
        if node.get("_recursive_") is False:
            return
    items = node.items() if isinstance(node, Mapping) else enumerate(node)
    for name, value in items:
        if isinstance(value, (Mapping, list)):
            yield from _targets(value, f"{key}.{name}" if key else str(name))


def _import(path: str, node: Mapping[str, Any]) -> Any:
    target = node["_target_"]
    try:
        found = import_target(target)
    except TargetError as error:
        raise TargetError(f"{path}._target_={target}: {error}", target) from error.__cause__
    if not callable(found):
        reason = f"{path}._target_={target}: is {_a(found)}, and no class or function"
        raise TargetError(reason, target)
    return found


def _a(made: Any) -> str:
    return "nothing" if made is None else f"an object of {type(made).__name__}"
