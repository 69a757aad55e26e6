from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import cache, partial

import pytest
from composing import compose_config, compose_once
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from forger import hardware
from forger.app.cli import main  # noqa: F401  (registers the short_id resolver)
from forger.app.config import compose
from forger.data import sample

_read_rows = cache(sample._read_rows)


@pytest.fixture(autouse=True, scope="session")
def _once() -> Iterator[None]:
    """Composes each set of files once, and reads the embedded digits once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compose, "compose", compose_once)
        patch.setattr(sample, "_read_rows", _read_rows)
        yield


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    """Undoes what Hydra sets in a process whose only command it was."""
    root = logging.getLogger()
    level, handlers = root.level, [*root.handlers]
    yield
    HydraConfig.instance().cfg = None
    root.setLevel(level)
    for handler in [*root.handlers]:
        if handler not in handlers:
            root.removeHandler(handler)


@pytest.fixture
def composed() -> Callable[..., DictConfig]:
    """Composes configs/train.yaml with overrides."""
    return partial(compose_config, "train")


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Pretends that this machine has so many GPUs."""

    def pretend(count: int) -> None:
        monkeypatch.setattr(hardware, "visible_gpus", lambda: [str(n) for n in range(count)])
        monkeypatch.setattr(hardware, "has_mps", lambda: False)

    return pretend
