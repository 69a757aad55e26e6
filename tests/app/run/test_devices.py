"""The device that scoring and generating compute on."""

from __future__ import annotations

import pytest
import torch

from forger.app.run.devices import pick_device
from forger.errors import RunError


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_who_is_given_a_gpu_and_finds_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    with pytest.raises(RunError, match=r"CUDA_VISIBLE_DEVICES=2: .*finds none.*trainer=cpu"):
        pick_device("auto")
    assert pick_device("cpu").type == "cpu"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert pick_device("auto").type in ("cpu", "mps")
