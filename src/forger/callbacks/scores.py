"""The scores of a run while it trains, and its best checkpoint."""

from __future__ import annotations

import io
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, Trainer
from PIL import Image
from torch import distributed

from forger.bounds import NonNegativeInt, PositiveInt, check_fields
from forger.callbacks.checkpoint import Checkpoint, ends
from forger.checkpoints import BEST, FOLDER
from forger.loggers import trackers_of
from forger.metrics.evaluator import Evaluation, Evaluator
from forger.metrics.settings import usual_count
from forger.random_state import random_state_kept
from forger.reports import show

log = logging.getLogger(__name__)


@dataclass(eq=False)
class ScoreCallback(Callback):
    """Scores the generator every so many iterations, and keeps the best checkpoint.

    The scores are written to every logger as `val/<score>`, and the checkpoint with the lowest FID
    so far as `checkpoints/best.ckpt`. The generator is copied to float32 and run in eval mode on
    noise of its own, and the random state is left alone: a run with this callback equals one
    without it in bits. All processes take part.

    Args:
        make_evaluator: called once by every process, rank 0 of its machine first, with the device.
        every_n_steps: iterations between scores; the last iteration is always scored.
        num_fake: images to generate; None: 10,000, or all that the other split has if fewer.
        weights: `ema`, the moving average, or `raw`.
        seed: of the noise, the same at every scoring.
        wanted: whether to score at all; rank 0's counts.
        keep_best: whether to write checkpoints.

    Raises:
        ConfigError: a number is out of range.
    """

    make_evaluator: Callable[[torch.device], Evaluator]
    every_n_steps: PositiveInt
    num_fake: PositiveInt | None = None
    weights: Literal["ema", "raw"] = "ema"
    seed: NonNegativeInt = 0
    wanted: bool = True
    keep_best: bool = True

    state_key = "Scores"  # in checkpoints

    def __post_init__(self) -> None:
        check_fields(self, "metrics")
        self.best_fid = math.inf
        self.best: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self.prefix = ""  # of the names of scores; known once there are any
        self._evaluation: Evaluation | None = None
        self._scored_at: int | None = None
        self._evaluator: Evaluator | None = None

    @property
    def fid(self) -> str:
        """Name under which the FID is logged, by the features that the run scores by."""
        return f"val/{self.prefix}fid"

    def prepare(self, device: torch.device) -> None:
        """Prepares the extractor, which may train it, if scores are wanted."""
        if self.wanted and self._evaluator is None:
            with random_state_kept(device):
                self._evaluator = self.make_evaluator(device)

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Prepares what rank 0 wants on every rank; one process of each machine goes first."""
        for goes in (trainer.is_global_zero, trainer.local_rank == 0, True):
            if goes:
                self.prepare(pl_module.device)
            self.wanted = trainer.strategy.broadcast(self.wanted)  # each waits for the others
        for checkpoint in self._checkpoints(trainer):
            checkpoint.gets_scores = self.wanted

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Reminds the trackers of a resumed run of its best scores."""
        self._log_best(trainer)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        """Scores when the iteration has come; the last one is saved first."""
        due = pl_module.iteration % self.every_n_steps == 0
        if self.wanted and due and not ends(trainer):
            start = time.perf_counter()
            self._score(trainer, pl_module)
            pl_module.reporter.leave_out(time.perf_counter() - start)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Scores the last iteration, unless that has just been done, and draws what came out."""
        if self.wanted and pl_module.iteration not in (0, self._scored_at):
            self._score(trainer, pl_module)
        trackers = trackers_of(trainer.loggers) if trainer.is_global_zero and self.last else []
        for name, png in self._figures(pl_module.loss.boundary) if trackers else []:
            with Image.open(io.BytesIO(png)) as picture:
                for tracker in trackers:
                    tracker.log_picture(f"figures/{name}", picture, pl_module.iteration)

    def _score(self, trainer: Trainer, gan: Any) -> None:
        evaluator, start = self._evaluator, time.perf_counter()
        assert evaluator is not None
        self._scored_at = gan.iteration
        # Each process has BatchNorm statistics of its own, and rank 0's are those that are saved.
        for buffer in gan.buffers() if trainer.world_size > 1 else []:
            distributed.broadcast(buffer, src=0)
        network = gan.generator if self.weights == "raw" else gan.ema_generator.module
        with random_state_kept(gan.device):
            scored = evaluator.evaluate(
                gan.task.sampler(network),
                gan.task,
                num_fake=self.num_fake or usual_count(evaluator.data, evaluator.reference_split),
                seed=self.seed,
                boundary=gan.loss.boundary,
            )
        # Last bits may differ between machines, but all must agree on whether to save.
        self.last = trainer.strategy.broadcast(scored.scores)
        self._evaluation, self.prefix = scored, scored.prefix
        row = {f"val/{key}": value for key, value in self.last.items()}
        show(trainer, row)
        for logger in trainer.loggers:
            logger.log_metrics(row, step=gan.iteration)
        best = row[self.fid] < self.best_fid
        if trainer.is_global_zero:
            seconds = time.perf_counter() - start
            log.info("%s", _log_line(gan.iteration, scored, seconds, best))
        if best:
            self.best_fid, self.best = row[self.fid], {"iteration": gan.iteration, **self.last}
            self._log_best(trainer)
            if self.keep_best and not trainer.fast_dev_run:  # type: ignore[attr-defined]
                self._save(trainer)
        for checkpoint in self._checkpoints(trainer):
            checkpoint.keep_scored(trainer, row[self.fid])

    @staticmethod
    def _checkpoints(trainer: Trainer) -> list[Checkpoint]:
        return [one for one in trainer.checkpoint_callbacks if isinstance(one, Checkpoint)]

    def _log_best(self, trainer: Trainer) -> None:
        for tracker in trackers_of(trainer.loggers) if self.best else []:
            tracker.log_best(self.best)

    def _save(self, trainer: Trainer) -> None:
        path = Path(trainer.default_root_dir) / FOLDER / BEST
        trainer.save_checkpoint(path)  # in every process: a sharded state is gathered from all
        for tracker in trackers_of(trainer.loggers):
            if tracker.log_model == "all":
                tracker.log_checkpoint(path, ("best", "latest"), self.best)

    def _figures(self, boundary: float | None) -> list[tuple[str, bytes]]:
        """Draws the last scores as PNGs: D's confusion matrix, and the classes where known."""
        from forger.metrics import figures  # matplotlib: only trackers need it

        assert self._evaluator is not None
        assert self._evaluation is not None
        drawn = [("confusion_matrix", figures.confusion_matrix(self.last, boundary))]
        classes, shares = self._evaluator.extractor.classes, self._evaluation.class_shares
        reference = self._evaluator.reference_shares
        if shares is not None and reference is not None and classes is not None:
            drawn.append(("class_histogram", figures.class_histogram(shares, reference, classes)))
        by_class = self._evaluation.by_class
        if by_class is not None and by_class.seen is not None and classes is not None:
            picture = figures.asked_classes(by_class.seen, by_class.classes, classes)
            drawn.append(("asked_classes", picture))
        return drawn

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed run needs to know: the best so far."""
        return {"best_fid": self.best_fid, "best": self.best, "prefix": self.prefix}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores it."""
        self.best_fid, self.best = state_dict["best_fid"], state_dict["best"]
        self.prefix = state_dict["prefix"]


def _log_line(iteration: int, found: Evaluation, seconds: float, best: bool) -> str:
    coverage = found.scores[f"{found.prefix}coverage"]
    names = f"{found.prefix.replace('_', ' ')}FID {found.fid:.4g}, coverage {coverage:.3f}"
    reached = found.scores.get("modes_reached", found.scores.get("classes_reached"))
    if reached is not None and found.class_shares is not None:
        names += f", {reached:.0f} of {len(found.class_shares):,} classes"
    if (by_class := found.by_class) is not None:
        if by_class.fids is not None:
            names += f", intra-FID {found.scores[f'{found.prefix}intra_fid']:.4g}"
            count = len(by_class.fids)
            few = f" ({count - len(by_class.left_out)} of {count} classes)"
            names += few if by_class.left_out else ""
        if "label_accuracy" in found.scores:
            names += f", {100 * found.scores['label_accuracy']:.1f} % seen as asked"
    if "psnr" in found.scores:
        names += f", PSNR {found.scores['psnr']:.2f} dB"
    return f"scores of iteration {iteration}: {names} ({seconds:.1f} s){', best so far' * best}"
