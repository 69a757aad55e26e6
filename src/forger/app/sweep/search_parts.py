"""Optuna's own objects, from config: sampler, pruner, storage. Owns the words where it cannot be.

Settings reach Optuna's signatures as they are: what those take is Optuna's to say.
"""

from __future__ import annotations

import importlib.util
import inspect
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, CmaEsSampler
from optuna.storages import RDBStorage
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from forger.app.config.importing import TargetError, import_target
from forger.app.config.messages import choice
from forger.app.sweep.search_space import Space
from forger.errors import ConfigError

_STORAGE = "hydra.sweeper.storage"
_PATIENCE = 60  # seconds that a process waits while another one writes to the file


def make_sampler(node: Mapping[str, Any], space: Space, trials: int) -> BaseSampler:
    """Builds the sampler.

    Args:
        node: of the config.
        space: what is searched; a sampler that asks for a grid is given it.
        trials: that the study has. A seed alone would draw those again that it drew at the start.

    Raises:
        ConfigError: it is none of Optuna's, or does not take these settings.
    """
    kind = _class_of(node, BaseSampler, "sampler")
    settings = {key: value for key, value in node.items() if not key.startswith("_")}
    if issubclass(kind, CmaEsSampler) and importlib.util.find_spec("cmaes") is None:
        raise ConfigError("hydra/sweeper/sampler=cmaes: needs the package; pip install cmaes")
    if "search_space" in inspect.signature(kind).parameters:
        settings["search_space"] = space.grid()
    elif isinstance(settings.get("seed"), int):
        settings["seed"] += trials
    sampler: BaseSampler = _make(kind, settings, "sampler")
    return sampler


def make_pruner(node: Mapping[str, Any]) -> BasePruner:
    """Builds the pruner.

    Raises:
        ConfigError: it is none of Optuna's, or does not take these settings.
    """
    kind = _class_of(node, BasePruner, "pruner")
    settings = {key: value for key, value in node.items() if not key.startswith("_")}
    pruner: BasePruner = _make(kind, settings, "pruner")
    return pruner


def storage_url(url: str | None, folder: Path) -> str:
    """Returns the URL of the storage, which means the same from every folder.

    Args:
        url: as given; `None`: a file in `folder`.
        folder: of the sweep.

    Raises:
        ConfigError: it is no database's URL, lives in memory, or shows a password.
    """
    if url is None:
        return f"sqlite:///{folder.absolute() / 'optuna.db'}"
    try:
        parsed = make_url(url)
    except SQLAlchemyError:
        raise ConfigError(
            f"{_STORAGE}={url}: must be a database's URL, for example sqlite:///search.db"
        ) from None
    if parsed.password is not None:
        shown = parsed.render_as_string(hide_password=True)
        raise ConfigError(
            f"{_STORAGE}={shown}: the password would stand in every run's folder; leave it out, and"
            " use what the database reads itself, ~/.pgpass for PostgreSQL"
        )
    if parsed.get_backend_name() != "sqlite":
        return url
    if parsed.database in (None, "", ":memory:"):
        raise ConfigError(
            f"{_STORAGE}={url}: is in memory, where no other process finds it; name a file:"
            " sqlite:///search.db"
        )
    path = Path(str(parsed.database)).expanduser().absolute()
    return parsed.set(database=str(path)).render_as_string()


def open_storage(url: str) -> RDBStorage:
    """Opens the database, which is made where it is not there yet.

    Raises:
        ConfigError: it cannot be opened.
    """
    settings: dict[str, Any] = {}
    if url.startswith("sqlite"):
        settings["connect_args"] = {"timeout": _PATIENCE}
        Path(str(make_url(url).database)).parent.mkdir(parents=True, exist_ok=True)
    try:
        return RDBStorage(url, engine_kwargs=settings)
    except (SQLAlchemyError, ImportError, OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{_STORAGE}={url}: cannot be opened: {reason}") from error


def _class_of(node: Mapping[str, Any], base: type, part: str) -> type:
    target = str(node["_target_"])
    try:
        kind = import_target(target)
    except TargetError as error:
        if not target.startswith("optuna."):
            raise ConfigError(f"hydra.sweeper.{part}._target_={target}: {error}") from error
        kind = None
    if not isinstance(kind, type) or not issubclass(kind, base):
        known = [name for name in dir(getattr(optuna, f"{part}s")) if name.endswith(part.title())]
        near = choice(target.rpartition(".")[2], {*known} - {base.__name__})
        raise ConfigError(f"hydra.sweeper.{part}._target_={target}: is no {part} of Optuna's{near}")
    return kind


def _make(kind: type, settings: Mapping[str, Any], part: str) -> Any:
    parameters = inspect.signature(kind).parameters
    for key in settings.keys() - parameters.keys():
        raise ConfigError(
            f"hydra.sweeper.{part}.{key}: {kind.__name__} has no such setting"
            f"{choice(key, parameters)}; hydra/sweeper/{part}=<word> brings its own"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return kind(**settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"hydra.sweeper.{part}: {error}") from None
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"hydra.sweeper.{part}: {reason}; pip install it") from None
