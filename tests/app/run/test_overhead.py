"""What surrounds the iterations stays out of their way, and is put back."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from lightning.pytorch.profilers import SimpleProfiler
from training import Compose

from forger.app.run.build import build_trainer
from forger.app.run.overhead import NoProfiler, lean

CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"


def test_no_optimizer_asks_for_gpus_while_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """With Lightning's variable, torch loads NVIDIA's library at every step where it is missing."""
    monkeypatch.setenv(CHECK, "1")
    with lean():
        assert CHECK not in os.environ
    assert os.environ[CHECK] == "1"


def test_the_collector_leaves_what_stays_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CHECK, raising=False)
    before = gc.get_freeze_count()
    with lean():
        assert gc.get_freeze_count() > before + 10_000
    assert gc.get_freeze_count() == 0
    assert CHECK not in os.environ


def test_a_run_has_no_profiler_unless_it_asks(composed: Compose, tmp_path: Path) -> None:
    for words, kind in (((), NoProfiler), (("+trainer.profiler=simple",), SimpleProfiler)):
        cfg = composed("trainer=cpu", "trainer.precision=32-true", *words)
        assert type(build_trainer(cfg, tmp_path, [], []).profiler) is kind
    with NoProfiler().profile("anything"):
        pass
