"""A task from outside the package: two generators, patch logits, a pool of old fakes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from helpers import SHAPE, Squares, fit
from lightning import Callback
from own_task import NAME, POOL, import_own_task, make, write_own_task
from own_task_pair import start_pair
from PIL import Image
from projection import Projection
from resuming import Rows, assert_resumes, last, squares, train
from same import differences
from test_gan import Spy

from forger.callbacks import SampleGrid
from forger.callbacks.scores import ScoreCallback
from forger.errors import ConfigError
from forger.metrics.evaluator import Evaluator
from forger.metrics.settings import ScoreSettings
from forger.noise import Draws
from forger.pictures import pixel_grid, to_pixels


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The user's module."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    write_own_task(tmp_path / "project")
    yield import_own_task(tmp_path / "project")
    sys.modules.pop(NAME)


def test_trains_one_side_at_a_time_and_logs_its_term(own: ModuleType, tmp_path: Path) -> None:
    gan, rows = make(own), Rows()
    gan.__class__ = Spy
    fit(gan, tmp_path, logger=rows)
    assert gan.updates == ("discriminator", "generator") * 3  # type: ignore[attr-defined]
    assert len(rows.rows) == 3
    for _, row in rows.rows:
        assert {"train/loss_g", "train/loss_d", "train/cycle", "train/d_fake"} <= row.keys()
        assert all(torch.isfinite(torch.as_tensor(value)) for value in row.values())


def test_half_of_what_is_judged_is_of_the_pool(own: ModuleType) -> None:
    task, draws = make(own).task, Draws(0)
    task.pool_size = 400
    task.load_process_state({"pool": torch.full((400, *SHAPE), -1.0)})
    draws.start(1)
    mixed = task.mixed_with_old(torch.ones(400, *SHAPE), draws)
    assert (mixed[:, 0, 0, 0] == -1).float().mean() == pytest.approx(0.5, abs=0.1)
    assert (task.process_state()["pool"] == 1).all()  # the old ones have left it


def test_a_trial_of_a_task_leaves_its_state_alone(own: ModuleType) -> None:
    """As the check of networks before a training makes."""
    gan, draws = make(own), Draws(0)
    trial = gan.task.with_sides(gan.generator, gan.discriminator)
    trial.mixed_with_old(torch.ones(2, *SHAPE), draws)
    trial.setup(Squares(batch_size=8))
    trial.sources.add_(1)
    assert trial.generator is gan.generator
    assert gan.task.process_state() == {"pool": None}
    assert not gan.task.sources.any()


def test_resumes_to_the_bits_of_an_uninterrupted_run(own: ModuleType, tmp_path: Path) -> None:
    assert_resumes(tmp_path, partial(make, own), squares, (1, 4), max_steps=6)
    (state,) = last(tmp_path / "whole")["task"]
    assert state["pool"].shape == (POOL, *SHAPE)


def test_each_process_gets_its_own_pool_back(own: ModuleType, tmp_path: Path) -> None:
    pair = start_pair(tmp_path, tmp_path / "project")
    try:
        for process in pair:
            output, _ = process.communicate(timeout=300)
            assert process.returncode == 0, output
    finally:
        for process in pair:
            process.kill()
            process.communicate()
    first, second = last(tmp_path / "whole")["task"]
    assert first["pool"].shape == second["pool"].shape == (POOL, *SHAPE)
    assert not torch.equal(first["pool"], second["pool"])
    assert not differences(last(tmp_path / "whole"), last(tmp_path / "cut"))
    told = (
        r"trainer\.devices: this run's Cycle keeps a state in each of its 2 processes, and goes on"
        r" in as many alone, not in 1"
    )
    with pytest.raises(ConfigError, match=told):
        train(tmp_path, make(own), squares(), ckpt_path=tmp_path / "cut/checkpoints/last.ckpt")


def make_evaluator(folder: Path, device: torch.device) -> Evaluator:
    data, extractor = Squares(batch_size=8), Projection()
    extractor.prepare(data, folder)
    few = ScoreSettings(precision_k=2, coverage_k=2, kid_subsets=3, kid_subset_size=20, splits=2)
    return Evaluator(extractor, data, few, cache_dir=folder / "cache", device=device)


def test_is_scored_and_drawn_and_changes_by_neither(own: ModuleType, tmp_path: Path) -> None:
    scores = ScoreCallback(partial(make_evaluator, tmp_path), every_n_steps=2, num_fake=40)
    callbacks: tuple[list[Callback], ...] = ([], [scores, SampleGrid(n=4, every_n_steps=2)])
    states = []
    for found in callbacks:
        gan = make(own)
        fit(gan, tmp_path, callbacks=found)
        states.append(gan.state_dict())
    assert not differences(*states)
    assert torch.isfinite(torch.tensor(list(scores.last.values()))).all()
    assert {"projection_fid", "d_gap_auroc"} <= scores.last.keys()
    with Image.open(tmp_path / "samples" / "last.png") as picture:
        drawn = np.asarray(picture, dtype=np.float32)
    images = gan.task.sampler(gan.ema_generator.module).sample(4)
    grid = pixel_grid(to_pixels(images)).numpy()
    assert np.array_equal(drawn.squeeze(), grid.squeeze())
    assert drawn.std() > 0


def test_a_seed_means_the_same_translations_whatever_their_number(own: ModuleType) -> None:
    task = make(own).task
    task.setup(Squares(batch_size=8))
    sampler = task.sampler(task.generator)
    many = sampler.sample(300, seed=1)
    assert torch.equal(many[:3], sampler.sample(3, seed=1))
    assert not torch.equal(many[:50], many[250:])
    assert not torch.equal(many[:3], sampler.sample(3, seed=2))
    (sources,) = sampler.inputs(0, 3, 1, {})
    assert torch.equal(many[:3], task.generator(sources).detach())
    assert sampler.latent_dim == 0
