"""The benchmark's loop by hand computes what the product does, for each of its workloads."""

from __future__ import annotations

import sys
from collections import defaultdict, deque
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training import ROOT, colour_folder, trained

from forger.batches import RealBatches
from forger.gan import GAN
from forger.noise import Draws
from forger.seeds import Purpose

sys.path.append(str(ROOT / "benchmarks"))
import reference_loop
import timed_product
import translation_loop
from workloads import LEARNING_RATE, WORKLOADS

BATCH, UPDATES = 8, 9  # of D at most: penalties of every fourth and eighth are in them


class Recorded:
    """What the product begins with, draws and sees in training."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.drawn: dict[Purpose, deque[Tensor]] = defaultdict(deque)
        self.reals: list[tuple[Tensor, ...]] = []
        start, draw, read = GAN.on_train_start, Draws.rows, RealBatches.__call__

        def on_train_start(gan: GAN) -> None:
            start(gan)
            self.gan, self.start = gan, deepcopy(gan)
            self.drawn.clear()

        def rows(draws: Draws, purpose: Purpose, *arguments: Any) -> Tensor:
            self.drawn[purpose].append(draw(draws, purpose, *arguments))
            return self.drawn[purpose][-1]

        def batches(own: RealBatches, *arguments: Any) -> list[dict[str, Tensor]]:
            found = read(own, *arguments)
            self.reals += [tuple(one.values()) for one in found]
            return found

        patch.setattr(GAN, "on_train_start", on_train_start)
        patch.setattr(Draws, "rows", rows)
        patch.setattr(RealBatches, "__call__", batches)

    def draw(self) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
        """Gives the loop what G was given."""
        noise, label, extra = (
            [self.drawn[purpose].popleft()] if self.drawn[purpose] else []
            for purpose in (
                Purpose.TRAINING_NOISE,
                Purpose.TRAINING_LABELS,
                Purpose.GENERATOR_NOISE,
            )
        )
        return noise[0], label, dict(zip(("extra",), extra, strict=False))


@pytest.mark.parametrize("name", list(WORKLOADS))
def test_it_trains_the_same_weights(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    workload, recorded = WORKLOADS[name], Recorded(monkeypatch)
    words = ["trainer.precision=32-true", f"data.batch_size={BATCH}", *workload.overrides]
    if workload.images == "photos":
        root = colour_folder(tmp_path / "images")
        words += [f"data.root={root}", "data=image_folder", "data.image_size=32", "data.flip=false"]
    if workload.game != "noise":
        kind = {"pairs": timed_product.Pairs, "sides": timed_product.Sides}[workload.images]
        words += [f"data._target_=timed_product.{kind.__name__}"]
        words += ["task.pool=20"] if workload.game == "cycle" else []
    steps = UPDATES // workload.loss.n_critic
    trained(tmp_path, *words, steps=steps)

    monkeypatch.setattr(reference_loop, "BATCH_SIZE", BATCH)
    monkeypatch.setattr(translation_loop, "POOL", 20)  # full after three batches
    make = timed_product.LOOPS[workload.game]
    loop = make(workload, torch.zeros(0, *workload.shape, dtype=torch.uint8))
    for network in ("generator", "discriminator"):
        state = getattr(recorded.start, network).state_dict()
        getattr(loop, network).load_state_dict(state)
    loop.average.load_state_dict(recorded.start.generator.state_dict())
    loop.batches = iter(recorded.reals)
    monkeypatch.setattr(loop, "draw", recorded.draw)
    drawn = Purpose.PENALTIES if workload.game == "noise" else Purpose.OWN_TASK
    monkeypatch.setattr(loop, "uniform", lambda *_: recorded.drawn[drawn].popleft())
    for _ in range(steps):
        loop.iterate()

    gan = recorded.gan
    assert not any(recorded.drawn.values())
    for ours, theirs in (
        (gan.generator, loop.generator),
        (gan.discriminator, loop.discriminator),
        (gan.ema_generator.module, loop.average),
    ):
        assert furthest(ours, theirs) < LEARNING_RATE / 100
    assert furthest(gan.generator, recorded.start.generator) > LEARNING_RATE


def furthest(one: nn.Module, other: nn.Module) -> float:
    """The largest distance of two weights."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)
