"""The device that computes, and what `trainer.precision=auto` becomes on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import DictConfig, OmegaConf
from training import Compose, run_folder, short

from forger import hardware
from forger.app.run import devices
from forger.app.run.devices import choose_precision, pick_device
from forger.app.run.train import train
from forger.errors import RunError


def config(wanted: Any = "auto", accelerator: str = "auto") -> DictConfig:
    return OmegaConf.create({"trainer": {"precision": wanted, "accelerator": accelerator}})


def pretend(monkeypatch: pytest.MonkeyPatch, *, gpu: bool | None, cpu: dict[str, bool]) -> None:
    """A machine with a GPU that has bfloat16 (True), has not (False), or without a GPU (None)."""
    monkeypatch.setattr(hardware, "visible_gpus", lambda: [] if gpu is None else ["0"])
    monkeypatch.setattr(hardware, "has_mps", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bool(gpu))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu, raising=False)


@pytest.mark.parametrize(
    ("gpu", "cpu", "accelerator", "expected"),
    [
        (None, {"avx512_bf16": True}, "auto", "bf16-mixed"),
        (None, {"amx_bf16": True, "avx512_bf16": False}, "cpu", "bf16-mixed"),
        (None, {"avx2": True, "avx512_bf16": False}, "auto", "32-true"),
        (True, {}, "auto", "bf16-mixed"),
        (True, {}, "gpu", "bf16-mixed"),
        (False, {"avx512_bf16": True}, "auto", "32-true"),
        (True, {}, "cpu", "32-true"),
        (None, {"avx512_bf16": True}, "mps", "32-true"),
    ],
)
def test_auto_looks_at_the_device_that_trains(
    gpu, cpu, accelerator, expected, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, gpu=gpu, cpu=cpu)
    cfg = config(accelerator=accelerator)
    said = choose_precision(cfg)
    assert cfg.trainer.precision == expected
    assert said is not None
    assert said.startswith(f"{expected}: this ")
    other = {"32-true": "bf16-mixed", "bf16-mixed": "32-true"}[expected]
    assert f"trainer.precision={other}" in said


@pytest.mark.parametrize("wanted", ["32-true", 64, "16-mixed"])
def test_a_choice_of_the_user_stays(wanted: Any) -> None:
    cfg = config(wanted)
    assert choose_precision(cfg) is None
    assert cfg.trainer.precision == wanted


def test_a_torch_that_does_not_tell_trains_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, gpu=None, cpu={})
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not devices.multiplies_bfloat16("cpu")


@pytest.mark.parametrize("has", [True, False])
def test_a_run_tells_and_records_what_was_chosen(
    has: bool, composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    pretend(monkeypatch, gpu=None, cpu={"avx512_bf16": has})
    caplog.set_level("INFO")
    train(composed(*short(tmp_path)))
    chosen = "bf16-mixed" if has else "32-true"
    assert f"precision       {chosen}: this processor has" in caplog.text
    recorded = yaml.safe_load((run_folder(tmp_path) / "config.yaml").read_text())
    assert recorded["trainer"]["precision"] == chosen


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_who_is_given_a_gpu_and_finds_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    with pytest.raises(RunError, match=r"CUDA_VISIBLE_DEVICES=2: .*finds none.*trainer=cpu"):
        pick_device("auto")
    assert pick_device("cpu").type == "cpu"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert pick_device("auto").type in ("cpu", "mps")


def test_a_gpu_that_torch_cannot_use_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, gpu=None, cpu={})
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(hardware, "visible_gpus", lambda: ["0", "1"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("auto", "cuda:1"):
        with pytest.raises(RunError, match=r"2 GPUs are here, and torch.* finds none"):
            pick_device(name)
    assert pick_device("cpu").type == "cpu"
