from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from forger import hardware
from forger.app.cli import main  # noqa: F401  (registers the short_id resolver)

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def composed() -> Iterator[Callable[..., DictConfig]]:
    """Composes configs/train.yaml with overrides, as a notebook would."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        yield lambda *overrides: compose("train", overrides=list(overrides))


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Pretends that this machine has so many GPUs."""

    def pretend(count: int) -> None:
        monkeypatch.setattr(hardware, "visible_gpus", lambda: [str(n) for n in range(count)])
        monkeypatch.setattr(hardware, "has_mps", lambda: False)

    return pretend
