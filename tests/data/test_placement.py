"""Where the training images stay, and that their batches are gathered there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import Squares

from forger.data import placement
from forger.data.placement import residence
from forger.data.resident import ResidentLoader
from forger.errors import ConfigError

GPU = torch.device("cuda:1")
IMAGES = torch.zeros(10, 1, 10, 10, dtype=torch.uint8)  # 1,000 bytes


@pytest.mark.parametrize(
    ("wanted", "free", "stays"),
    [
        ("auto", 4000, "cuda:1"),
        ("auto", 3999, "cpu"),
        ("accelerator", 0, "cuda:1"),
        ("cpu", 10**9, "cpu"),
    ],
)
def test_images_stay_where_there_is_room(
    wanted: Any, free: int, stays: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**10))
    assert residence(IMAGES, wanted, GPU) == torch.device(stays)
    assert residence(IMAGES, wanted, torch.device("cpu")) == torch.device("cpu")


def test_a_device_that_does_not_tell_its_memory_gets_batches_only() -> None:
    assert placement.free_bytes(torch.device("xpu")) == 0
    assert residence(IMAGES, "auto", torch.device("xpu")) == torch.device("cpu")


def test_batches_are_gathered_where_the_images_are_in_the_same_order() -> None:
    labels = torch.arange(10)
    settings: dict[str, Any] = {"batch_size": 4, "seed": 3, "epoch": lambda: 0, "flip": True}
    here = ResidentLoader(IMAGES, labels, **settings)
    there = ResidentLoader(IMAGES.to("meta"), labels, **settings)
    for batch in there:
        assert all(tensor.device.type == "meta" for tensor in batch)
    order, flips = here._plan(0)
    elsewhere = there._plan(0)
    assert [x.shape for x in elsewhere] == [order.shape, flips.shape]


def test_an_unknown_place_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.device=gpu: must be one of auto, cpu, accelera"):
        Squares(device="gpu")
