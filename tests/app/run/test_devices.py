"""The device that computes, and what `trainer.precision=auto` becomes on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf
from training import trained

from forger import hardware
from forger.app.run.devices import choose_precision, pick_device
from forger.errors import RunError


def pretend(monkeypatch: pytest.MonkeyPatch, *, gpu: bool | None, cpu: dict[str, bool]) -> None:
    """A machine with a GPU that has bfloat16 (True), has not (False), or without a GPU (None)."""
    monkeypatch.setattr(hardware, "visible_gpus", lambda: [] if gpu is None else ["0"])
    monkeypatch.setattr(hardware, "has_mps", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bool(gpu))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu, raising=False)


@pytest.mark.parametrize(
    ("gpu", "cpu", "accelerator", "wanted", "expected"),
    [
        (None, {"avx512_bf16": True}, "auto", "auto", "bf16-mixed"),
        (None, {"amx_bf16": True, "avx512_bf16": False}, "cpu", "auto", "bf16-mixed"),
        (None, {"avx2": True, "avx512_bf16": False}, "auto", "auto", "32-true"),
        (True, {}, "auto", "auto", "bf16-mixed"),
        (True, {}, "gpu", "auto", "bf16-mixed"),
        (False, {"avx512_bf16": True}, "auto", "auto", "32-true"),
        (True, {}, "cpu", "auto", "32-true"),
        (None, {"avx512_bf16": True}, "mps", "auto", "32-true"),
        (True, {}, "auto", 64, 64),
    ],
)
def test_auto_looks_at_the_device_that_trains(
    gpu, cpu, accelerator, wanted: Any, expected, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, gpu=gpu, cpu=cpu)
    cfg = OmegaConf.create({"trainer": {"precision": wanted, "accelerator": accelerator}})
    said = choose_precision(cfg)
    assert cfg.trainer.precision == expected
    if wanted != "auto":
        assert said is None
        return
    other = {"32-true": "bf16-mixed", "bf16-mixed": "32-true"}[expected]
    assert said is not None
    assert said.startswith(f"{expected}: this ")
    assert f"trainer.precision={other}" in said


@pytest.mark.parametrize("has", [True, False])
def test_a_run_tells_and_records_what_was_chosen(
    has: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pretend(monkeypatch, gpu=None, cpu={"avx512_bf16": has})
    caplog.set_level("INFO")
    run = trained(tmp_path)
    chosen = "bf16-mixed" if has else "32-true"
    assert f"precision       {chosen}: this processor has" in caplog.text
    recorded = yaml.safe_load((run / "config.yaml").read_text())
    assert recorded["trainer"]["precision"] == chosen


def test_a_gpu_that_torch_cannot_use_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, gpu=None, cpu={})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    with pytest.raises(RunError, match=r"CUDA_VISIBLE_DEVICES=2: .*finds none.*trainer=cpu"):
        pick_device("auto")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert pick_device("auto").type in ("cpu", "mps")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(hardware, "visible_gpus", lambda: ["0", "1"])
    for name in ("auto", "cuda:1"):
        with pytest.raises(RunError, match=r"2 GPUs are here, and torch.* finds none"):
            pick_device(name)
    assert pick_device("cpu").type == "cpu"
