"""One count of this machine's GPUs, which agrees with torch's."""

from __future__ import annotations

import pytest
import torch

from forger import hardware


@pytest.mark.parametrize(
    ("variable", "names"),
    [
        (None, ["0", "1", "2", "3"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0,2", ["0", "2"]),
        ("0,7,1", ["0"]),
        ("GPU-1f", ["GPU-1f"]),
    ],
)
def test_gpus_that_a_process_may_use(
    variable: str | None, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "_torch_build", lambda: {"cuda": "13.0"})
    monkeypatch.setattr(hardware, "_nvidia_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert hardware.visible_gpus() == names
    assert hardware.gpu_count() == len(names)


def test_a_build_of_torch_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_torch_build", lambda: {"cuda": None, "hip": None})
    monkeypatch.setattr(hardware, "_nvidia_count", lambda: 4)
    assert hardware.gpu_count() == 0


def test_torch_agrees() -> None:
    assert hardware.gpu_count() == torch.cuda.device_count()
    assert hardware._torch_build()["cuda"] == torch.version.cuda
