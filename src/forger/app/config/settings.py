"""Settings of a composed config: put in one by one, looked up by other names, made absolute."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, ListConfig, OmegaConf, flag_override, open_dict
from omegaconf.errors import OmegaConfBaseException

from forger.app.config.command import PATHS, Command, expanded
from forger.app.config.messages import nearest, written
from forger.app.config.overrides import with_first_value
from forger.app.config.sections import SCRIPTS
from forger.app.config.signatures import signature_of
from forger.app.config.values import as_written, is_related, leaves, reason_of, value_at

_OURS = {  # names of other programs, each with ours
    **{"learning_rate": "lr", "beta1": "betas", "z_dim": "latent_dim", "nz": "latent_dim"},
    **{"steps": "max_steps", "iterations": "max_steps", "gpus": "devices", "fp16": "precision"},
}


def put_settings(cfg: DictConfig, settings: Iterable[Override]) -> tuple[list[str], list[Override]]:
    """Puts settings into a config one by one, as Hydra would, so that no mistake hides another.

    Args:
        cfg: the composed config; it is changed.
        settings: in the order typed.

    Returns:
        What is wrong, one line each, and the settings that no file lists: they are put in too, for
        the check to say whether they mean something.
    """
    problems, unlisted, put = list[str](), list[Override](), list[Override]()
    for override in map(with_first_value, settings):
        try:
            is_listed = _is_there(cfg, override.key_or_group)
            mistake = _put(cfg, override, is_listed)
        except (OmegaConfBaseException, ValueError, TypeError) as error:
            mistake = reason_of(error)
        if mistake is not None:
            problems.append(f"{override.input_line}: {mistake}")
            continue
        put.append(override)
        if not is_listed and not str(override.input_line).startswith("+"):
            unlisted.append(override)
    return problems + list(_overwritten(cfg, put)), unlisted


def _put(cfg: DictConfig, override: Override, is_listed: bool) -> str | None:
    """Puts a setting in, or says what is wrong with it."""
    key, value = override.key_or_group, override.value()
    own = OmegaConf.select(cfg, key, throw_on_missing=False) if is_listed else None
    if override.is_delete():
        owner, name = _owner(cfg, key)
        if own is None:
            return "there is nothing to remove" + nearest(name, map(str, owner or ()))
        if value not in (None, own):
            return f"has another value; write ~{key}"
        with open_dict(owner):
            del owner[name]
        return None
    if override.is_add() and own is not None and not isinstance(value, (dict, list)):
        return f"is already there; write {str(override.input_line).lstrip('+')}"
    adds = not is_listed or override.is_add() or override.is_force_add()
    with flag_override(cfg, "struct", True):
        OmegaConf.update(cfg, key, value, merge=True, force_add=adds)
    return None


def _owner(cfg: DictConfig, key: str) -> tuple[Any, str]:
    """Returns the part of the config that holds a setting, if any, and the setting's name in it."""
    owner, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, owner) if owner else cfg
    return node if isinstance(node, DictConfig) else None, name


def _is_there(cfg: DictConfig, key: str) -> bool:
    owner, name = _owner(cfg, key)
    return owner is not None and name in owner.keys()  # noqa: SIM118 (`???` too)


def _overwritten(cfg: DictConfig, settings: Sequence[Override]) -> Iterator[str]:
    """Yields a complaint for each setting that a later one made void; Hydra takes the last."""
    for place, override in enumerate(settings):
        key, value = override.key_or_group, override.value()
        later = [one for one in settings[place + 1 :] if is_related(key, one.key_or_group)]
        node = value_at(as_written(cfg), key) if later else None
        if later and not (node is None if override.is_delete() else _holds(node, value)):
            instead = f"is overwritten by {later[0].input_line}; leave one of them out"
            yield f"{override.input_line}: {instead}"


def _holds(node: Any, value: Any) -> bool:
    """Tells whether a value is there; of a mapping, which is merged, all that it names."""
    if isinstance(value, dict) and isinstance(node, dict):
        return all(name in node and _holds(node[name], item) for name, item in value.items())
    return type(value) is type(node) and bool(value == node or value != value)


def what_to_write(cfg: DictConfig, key: str, value: Any) -> str | None:
    """Returns the setting that a wrong key means: `lr=0.1` is `optimizer.lr=0.1`, if any."""
    known = dict(leaves(as_written(cfg)))
    spelled = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower().replace("-", "_")
    name = spelled.rpartition(".")[2]

    def distance(one: str) -> tuple[bool, bool, int]:
        is_elsewhere = one.partition(".")[0] != key.partition(".")[0]
        return is_elsewhere, str(known[one]).startswith("${"), one.count(".")

    for end in (f".{spelled}", f".{_OURS.get(name, name)}", f"_{name}"):
        found = [one for one in known if f".{one}".endswith(end) and not is_related(one, key)]
        if found:
            best = [one for one in found if distance(one) == min(map(distance, found))]
            return " or ".join(_with_value(one, known[one], value) for one in best[:2])
    return None


def _with_value(key: str, old: Any, value: Any) -> str:
    """Writes the value where it is of the type that stands there now."""
    fits = type(old) is type(value) or {type(old), type(value)} == {int, float}
    shown = written(value) if fits or old is None or str(old).startswith("${") else "<value>"
    return f"{key}={'<choice>' if isinstance(old, dict) else shown}"


def other_homes(command: Command, key: str) -> list[str]:
    """Returns the choices whose file lists a setting of their group, such as `loss=r3gan`."""
    parts = key.split(".")
    for depth in range(len(parts) - 1, 0, -1):
        group, inside = "/".join(parts[:depth]), ".".join(parts[depth:])
        files = sorted(command.config_dir.joinpath(group).glob("*.yaml"))
        homes = [f"{group}={path.stem}" for path in files if inside in _keys_of(path)]
        if homes and SCRIPTS[command.script].has_group(group):
            return homes
    return []


@cache
def _keys_of(path: Path) -> tuple[str, ...]:
    """Returns every setting that a file lists."""
    return tuple(key for key, _ in leaves(OmegaConf.to_container(OmegaConf.load(path))))


def with_absolute_paths(cfg: DictConfig) -> DictConfig:
    """Returns a copy in which paths do not depend on the working directory, `~` expanded.

    Those are the settings that name paths, and what a data module of the user's own annotates as
    `Path`.
    """
    cfg = cfg.copy()
    signature = signature_of(OmegaConf.select(cfg, "data._target_"))
    parameters = {} if isinstance(signature, str) else signature.parameters
    hints = {f"data.{name}": parameter.hint for name, parameter in parameters.items()}
    for key in (*PATHS, *(key for key, hint in hints.items() if Path in (hint, *get_args(hint)))):
        owner, name = _owner(cfg, key)
        if not _is_there(cfg, key) or OmegaConf.is_missing(owner, name):
            continue
        value = owner[name]
        with open_dict(owner):
            if isinstance(value, ListConfig):
                owner[name] = [_absolute(str(path)) for path in value]
            elif isinstance(value, str) and value != "last" and value != _absolute(value):
                owner[name] = _absolute(value)
    return cfg


def _absolute(text: str) -> str:
    return str(Path(expanded(text)).absolute()) if text.strip() else text
