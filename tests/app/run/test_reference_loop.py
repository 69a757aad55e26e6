"""The benchmark's loop by hand computes what the product does, for each of its workloads."""

from __future__ import annotations

import sys
from collections import defaultdict, deque
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training import ROOT, colour_folder, trained

from forger.batches import RealBatches
from forger.gan import GAN
from forger.networks import mlp
from forger.noise import Draws
from forger.seeds import Purpose

sys.path.append(str(ROOT / "benchmarks"))
import graph_loop
import kernels
import reference_loop
import throughput_table
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


# Beside what is timed on GPUs alone: `r3gan_full` is `r3gan`, wide.
EACH = [*(k for k, of in WORKLOADS.items() if "cpu" in of.on)]


@pytest.mark.parametrize("name", [*EACH, pytest.param("sngan", marks=pytest.mark.slow)])
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


def test_iterations_in_one_piece_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU replays as graphs, here without any: kinds of iterations, rows in one place."""
    for module in (reference_loop, graph_loop):
        monkeypatch.setattr(module, "BATCH_SIZE", 4)
    shape, loops = (1, 28, 28), list[Any]()
    networks = lambda: (mlp.Generator(shape, 6, (8,)), mlp.Discriminator(shape, (8,)))  # noqa: E731
    workload = replace(WORKLOADS["r3gan"], networks=networks)
    for kind in (reference_loop.Loop, graph_loop.GraphLoop):
        torch.manual_seed(0)
        images = torch.randint(256, (24, *workload.shape), dtype=torch.uint8)
        loops.append(kind(workload, images))
        monkeypatch.setattr(loops[-1], "_decay", lambda: graph_loop.EMA_DECAY)
        for _ in range(9):
            loops[-1].iterate()
    plain, graphs = loops
    for name in ("generator", "discriminator", "average"):
        assert furthest(getattr(plain, name), getattr(graphs, name)) == 0
    assert len(graphs._kinds) == 2
    assert all(graphs._kinds.values())


def test_what_is_told_of_a_gpu() -> None:
    """Overlapping kernels count once; the table names what an iteration takes."""

    def event(device: str, name: str, start: float = 0, end: float = 1) -> Any:
        span, kind = SimpleNamespace(start=start, end=end), SimpleNamespace(name=device)
        return SimpleNamespace(device_type=kind, name=name, time_range=span)

    launches = [event("CPU", "cudaLaunchKernel"), event("CPU", "cudaGraphLaunch")]
    work = [event("CUDA", "kernel", *span) for span in ((0, 1000), (500, 2000), (3000, 4000))]
    found = kernels.figures([*launches, event("CPU", "aten::mm"), *work], 2)
    assert found == {"kernels": 1.5, "launches": 1.0, "busy_ms": 1.5}
    run = found | {"mean_iteration_ms": 3.0, "peak_device_mib": 10.0, "images_per_second": 100.0}
    run |= {"operations": 1e9, "peak_mib": 2.0, "after_import_mib": 1.0}
    runs = {name: [run] for name in ("product", "reference", "graph")}
    of = throughput_table.summarise(runs, {"matrix_rate": 1e12})
    rows = [*throughput_table._gpu_rows("vanilla", of)]
    assert rows[2] == (*("vanilla", "graph", "100", "1.00 (1.00-1.00)", "50%", "2", "1", "10 MiB"),)


def furthest(one: nn.Module, other: nn.Module) -> float:
    """The largest distance of two weights."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)
