from __future__ import annotations

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import LabelledSquares, Squares, conditional, fit, make_dcgan, make_gan, make_trainer
from lightning import Callback
from projection import Projection
from same import differences
from short_run import last
from torch import Tensor

from forger.callbacks import Checkpoint, SampleGrid
from forger.callbacks.exact_resume import ExactResume
from forger.callbacks.scores import ScoreCallback
from forger.checkpoints.reading import read_checkpoint
from forger.checkpoints.writing import WholeCheckpointIO
from forger.conditions import Labels
from forger.gan import GAN
from forger.loggers import MetricsCSV
from forger.losses import Hinge
from forger.metrics.evaluator import Evaluation, Evaluator
from forger.metrics.settings import ScoreSettings
from forger.networks import dcgan, mlp
from forger.sampling.sampler import Sampler

SETTINGS = ScoreSettings(precision_k=2, coverage_k=2, kid_subsets=3, kid_subset_size=20, splits=2)


def make_evaluator(folder: Path, device: torch.device) -> Evaluator:
    data = LabelledSquares(batch_size=8)
    extractor = Projection()
    extractor.prepare(data, folder)
    return Evaluator(extractor, data, SETTINGS, cache_dir=folder / "cache", device=device)


def scores(folder: Path, **arguments: Any) -> ScoreCallback:
    settings: dict[str, Any] = {"every_n_steps": 2, "num_fake": 40}
    return ScoreCallback(partial(make_evaluator, folder), **(settings | arguments))


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def scored_rows(folder: Path) -> list[dict[str, str]]:
    return [row for row in table(folder) if row.get("val/projection_fid")]


def labelled() -> GAN:
    return make_gan(**conditional("projection"))


def spectral() -> GAN:
    discriminator = dcgan.Discriminator((1, 16, 16), width=4, norm="spectral")
    return make_gan(dcgan, discriminator=discriminator, loss=Hinge())


@pytest.mark.parametrize("make", [make_gan, make_dcgan, spectral, labelled])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_is_the_same_in_bits_with_scores_and_without(
    make: Callable[[], GAN], precision: Any, tmp_path: Path
) -> None:
    states = []
    for callbacks in ([], [scores(tmp_path, every_n_steps=1)]):
        torch.manual_seed(3)
        gan = make()
        trainer = fit(gan, tmp_path, callbacks=callbacks, precision=precision, max_steps=4)
        optimizers = [optimizer.state_dict() for optimizer in trainer.optimizers]
        states.append((dict(gan.state_dict()), optimizers, torch.get_rng_state()))
    assert not differences(*states)


@pytest.mark.parametrize(("steps", "scored"), [(5, ["2", "4", "5"]), (4, ["2", "4"])])
def test_scores_are_logged_at_the_interval_and_once_at_the_last_iteration(
    steps: int, scored: list[str], tmp_path: Path
) -> None:
    callback, logger = scores(tmp_path), MetricsCSV(tmp_path)
    callback.prepare(torch.device("cpu"))
    prepared = callback._evaluator
    trainer = fit(make_gan(), tmp_path, callbacks=[callback], logger=logger, max_steps=steps)
    assert callback._evaluator is prepared
    rows = scored_rows(tmp_path)
    assert [row["step"] for row in rows] == scored
    fid = float(rows[-1]["val/projection_fid"])
    assert fid == callback.last["projection_fid"]
    assert fid == pytest.approx(trainer.callback_metrics["val/projection_fid"].item(), rel=1e-6)


def test_scoring_is_left_out_of_the_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Iterations take a second each, and a scoring ten, by this clock."""
    now = [0.0]

    class Timed(ScoreCallback):
        def on_train_batch_start(self, *arguments: Any) -> None:
            now[0] += 1

        def _score(self, trainer: Any, gan: Any) -> None:
            now[0] += 10

    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    callback = Timed(lambda _: Told([]), every_n_steps=1, num_fake=40)
    fit(make_gan(), tmp_path, callbacks=[callback], logger=MetricsCSV(tmp_path))
    assert [float(row["train/images_per_second"]) for row in table(tmp_path)] == [8.0, 8.0, 8.0]


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true", "bf16-true"])
def test_precision_does_not_change_what_is_scored(precision: Any, tmp_path: Path) -> None:
    """The same weights score the same bits, whatever they were trained in."""
    callback, gan, again = scores(tmp_path, every_n_steps=3), make_gan(), make_gan()
    fit(gan, tmp_path, callbacks=[callback], precision=precision)
    again.load_state_dict(gan.float().state_dict())
    sampler = Sampler(again.ema_generator.module, "normal")
    evaluator = make_evaluator(tmp_path, torch.device("cpu"))
    found = evaluator.evaluate(sampler, again.task, num_fake=40, boundary=0.0)
    assert found.scores == callback.last


class Halves(Squares):
    """Squares that lie on the left or on the right."""

    classes = ("left", "right", "nowhere")

    def read(self, split: str) -> dict[str, Tensor]:
        images = super().read(split)["image"]
        return {"image": images, "label": (images[..., 8:].float().mean((1, 2, 3)) > 64).long()}


def test_a_run_with_classes_logs_its_scores_by_class(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def make_it(device: torch.device) -> Evaluator:
        data, extractor = Halves(batch_size=8, seed=0), Projection()
        extractor.prepare(data, tmp_path)
        return Evaluator(extractor, data, SETTINGS, cache_dir=tmp_path / "cache", device=device)

    sizes: dict[str, Any] = {"hidden": (16, 16), "num_classes": 3}
    gan = make_gan(
        generator=mlp.Generator((1, 16, 16), latent_dim=6, **sizes),
        discriminator=mlp.Discriminator((1, 16, 16), **sizes),
        condition=Labels(Halves.classes),
    )
    callback = ScoreCallback(make_it, every_n_steps=2, num_fake=40)
    trainer = make_trainer(tmp_path, callbacks=[callback], logger=MetricsCSV(tmp_path))
    with caplog.at_level("INFO"):
        trainer.fit(gan, datamodule=Halves(batch_size=8, seed=0))
    (_, row) = scored_rows(tmp_path)
    for name in ("label_accuracy", "projection_intra_fid"):
        assert float(row[f"val/{name}"]) == callback.last[name]
        assert f"val/{name}" in trainer.callback_metrics
    share = f"{100 * callback.last['label_accuracy']:.1f} % seen as asked"
    assert f"(2 of 3 classes), {share}" in caplog.text
    assert [name for name, _ in callback._figures(0.0)][-1] == "asked_classes"


class Told(Evaluator):
    """Says what it is told to."""

    def __init__(self, fids: list[float]) -> None:
        self.fids = iter(fids)

    def evaluate(self, *arguments: Any, **settings: Any) -> Evaluation:
        return Evaluation({"fid": next(self.fids), "coverage": 0.5}, None)


@pytest.mark.parametrize(
    ("fids", "iteration", "lowest"),
    [([3.0, 1.0, 2.0], 2, 1), ([1.0, 1.0, 1.0], 1, 1), ([float("nan"), 5.0, float("inf")], 2, 5)],
)
def test_the_best_checkpoint_has_the_lowest_fid(
    fids: list[float], iteration: int, lowest: float, tmp_path: Path
) -> None:
    callback = ScoreCallback(lambda _: Told(fids), every_n_steps=1, num_fake=40)
    fit(make_gan(), tmp_path, callbacks=[callback])
    assert last(tmp_path, "best")["global_step"] == iteration
    assert callback.best_fid == lowest


def test_the_best_so_far_is_part_of_the_state(tmp_path: Path) -> None:
    first, second = (
        ScoreCallback(lambda _, fid=fid: Told([fid]), every_n_steps=1, num_fake=40)
        for fid in (2.0, 3.0)
    )
    trainer = fit(make_gan(), tmp_path, callbacks=[first], max_steps=1)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    second.load_state_dict(content["callbacks"]["Scores"])
    fit(make_gan(), tmp_path / "b", callbacks=[second], max_steps=1)
    assert second.best_fid == 2.0
    assert not (tmp_path / "b" / "checkpoints").exists()


def test_raw_weights_are_scored_where_asked_and_no_checkpoint_is_kept_where_none_is_wanted(
    tmp_path: Path,
) -> None:
    found = []
    for weights in ("ema", "raw"):
        callback = scores(tmp_path, weights=weights, keep_best=False)
        fit(make_gan(ema_decay=0.99), tmp_path, callbacks=[callback], max_steps=6)
        found.append(callback.last["projection_fid"])
    assert found[0] != found[1]
    assert not (tmp_path / "checkpoints").exists()


def test_unwanted_scores_prepare_and_write_nothing(tmp_path: Path) -> None:
    def never(device: torch.device) -> Evaluator:
        raise AssertionError("not wanted")

    callback = ScoreCallback(never, wanted=False, every_n_steps=1, num_fake=40)
    fit(make_gan(), tmp_path, callbacks=[callback], logger=MetricsCSV(tmp_path))
    assert callback.last == {}
    assert scored_rows(tmp_path) == []


class Breaks(Callback):
    """Ends the run while callbacks write what belongs to its end."""

    def on_train_end(self, *_: Any) -> None:
        raise RuntimeError("killed")


def ended(folder: Path, breaks: str = "", resume: bool = False, **limit: Any) -> None:
    """Trains with scores and samples, new objects each time, and breaks before or after scores."""
    logger, path = MetricsCSV(folder), folder / "checkpoints" / "last.ckpt"
    callbacks: list[Callback] = [scores(folder), SampleGrid(n=4, every_n_steps=3), Checkpoint()]
    if breaks:
        callbacks.insert(0 if breaks == "before" else 1, Breaks())
    if resume:
        logger.rewind(int(read_checkpoint(path)["global_step"]))
    fit(
        make_gan(),
        folder,
        ckpt_path=path if resume else None,
        callbacks=[ExactResume(), *callbacks],
        logger=logger,
        plugins=[WholeCheckpointIO()],
        enable_checkpointing=True,
        **({"max_steps": -1} | limit),
    )


def left(folder: Path) -> dict[str, Any]:
    """What a run has left: rows without times, pictures, and checkpoints without the clock."""
    rows = [{k: v for k, v in row.items() if "per_second" not in k} for row in table(folder)]
    pictures = {path.name: path.read_bytes() for path in (folder / "samples").iterdir()}
    kept = [read_checkpoint(folder / "checkpoints" / f"{name}.ckpt") for name in ("last", "best")]
    for checkpoint in kept:
        checkpoint["callbacks"].pop("Timer", None)
    return {"rows": rows, "pictures": pictures, "checkpoints": kept}


@pytest.mark.parametrize(
    "limit",
    [{"max_steps": 4}, {"max_steps": 5}, {"max_epochs": 1}, {"max_time": {"microseconds": 1}}],
)
@pytest.mark.parametrize("breaks", ["before", "after"])
def test_a_run_broken_off_after_training_makes_up_for_the_rest_once(
    limit: dict[str, Any], breaks: str, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    ended(whole, **limit)
    with pytest.raises(RuntimeError, match="killed"):
        ended(cut, breaks, **limit)
    assert len(scored_rows(cut)) == len(scored_rows(whole)) - (breaks == "before")
    for _ in range(2):  # a second time where the end had been written, but not that it had
        ended(cut, resume=True, **limit)
        assert not differences(left(whole), left(cut))
