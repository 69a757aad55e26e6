"""Scores while a run trains. Owns when they are due, where they go, and the best checkpoint.

How images are scored is in `forger.metrics`; this module changes no bit of the training.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, Trainer
from torch import distributed, nn

from forger.bounds import NonNegativeInt, PositiveInt, check_bounds
from forger.callbacks.checkpoint import ends
from forger.callbacks.score_pictures import score_pictures
from forger.checkpoints import FOLDER
from forger.loggers import Tracker, log_best, send_best
from forger.loggers.trackers import BEST
from forger.metrics.evaluator import Evaluation, Evaluator
from forger.metrics.settings import usual_count
from forger.random_state import random_state_kept
from forger.reports import show
from forger.sampling.sampler import Sampler

log = logging.getLogger(__name__)


class Scores(Callback):
    """Scores the generator every so many iterations, and keeps the best checkpoint.

    The scores are written to every logger as `val/<score>` with the iteration as their step. The
    generator is copied to float32 and run in eval mode on noise of its own, and the random state
    is left alone: a run with this callback equals one without it in bits. All processes take part.

    The checkpoint with the lowest FID so far is `checkpoints/best.ckpt` in the run folder.

    Args:
        make_evaluator: called once by every process, rank 0 of its machine first, with the device.
        wanted: whether to score at all; rank 0's counts.
        every_n_steps: iterations between scores; the last iteration is always scored.
        num_fake: images to generate; None: 10,000, or all that the other split has if fewer.
        weights: `ema`, the moving average, or `raw`.
        seed: of the noise, the same at every scoring.
        keep_best: whether to write checkpoints.

    Raises:
        ConfigError: a number is out of range.
    """

    def __init__(
        self,
        make_evaluator: Callable[[torch.device], Evaluator],
        *,
        wanted: bool = True,
        every_n_steps: PositiveInt,
        num_fake: PositiveInt | None,
        weights: Literal["ema", "raw"] = "ema",
        seed: NonNegativeInt = 0,
        keep_best: bool = True,
    ) -> None:
        check_bounds(every_n_steps, PositiveInt, "metrics.every_n_steps")
        if num_fake is not None:
            check_bounds(num_fake, PositiveInt, "metrics.num_fake")
        check_bounds(seed, NonNegativeInt, "metrics.seed")
        self.make_evaluator, self.wanted = make_evaluator, wanted
        self.every_n_steps, self.num_fake = every_n_steps, num_fake
        self.weights, self.seed, self.keep_best = weights, seed, keep_best
        self.best_fid = math.inf
        self.best: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self.prefix = ""  # of the names of scores; known once there are any
        self._shares: list[float] | None = None
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
        if trainer.is_global_zero:
            self.prepare(pl_module.device)
        self.wanted = trainer.strategy.broadcast(self.wanted)
        if trainer.local_rank == 0:
            self.prepare(pl_module.device)
        trainer.strategy.barrier()
        self.prepare(pl_module.device)

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Reminds the trackers of a run that goes on of its best scores."""
        if self.best:
            log_best(trainer.loggers, self.best)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        """Scores when the iteration has come; the last one is saved first."""
        due = pl_module.iteration % self.every_n_steps == 0
        if self.wanted and due and not ends(trainer):
            start = time.perf_counter()
            self._score(trainer, pl_module)
            pl_module.reporter.leave_out(time.perf_counter() - start)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Scores the last iteration, unless that has just been done."""
        if self.wanted and pl_module.iteration not in (0, self._scored_at):
            self._score(trainer, pl_module)
        if self.last and trainer.is_global_zero:
            self._draw(trainer, pl_module)

    def _draw(self, trainer: Trainer, gan: Any) -> None:
        """Sends what the last scores look like to the trackers; evaluate.py draws more."""
        trackers = [logger for logger in trainer.loggers if isinstance(logger, Tracker)]
        if not trackers:
            return
        assert self._evaluator is not None
        classes, reference = self._evaluator.extractor.classes, self._evaluator.reference_shares
        pictures = score_pictures(self.last, self._shares, reference, classes, gan.loss.boundary)
        for name, picture in pictures.items():
            for tracker in trackers:
                tracker.log_picture(f"figures/{name}", picture, gan.iteration)

    def _score(self, trainer: Trainer, gan: Any) -> None:
        evaluator = self._evaluator
        assert evaluator is not None
        self._scored_at = gan.iteration
        start = time.perf_counter()
        if trainer.world_size > 1:
            _follow_rank_0(gan)
        network = gan.generator if self.weights == "raw" else gan.ema_generator.module
        sampler = Sampler(network, gan.prior)
        with random_state_kept(gan.device):
            scored = evaluator.evaluate(
                sampler,
                gan.discriminator,
                num_fake=self.num_fake or usual_count(evaluator.data, evaluator.reference_split),
                seed=self.seed,
                boundary=gan.loss.boundary,
            )
        # Last bits may differ between machines, but all must agree on whether to save.
        self.last = trainer.strategy.broadcast(scored.scores)
        self._shares, self.prefix = scored.class_shares, scored.prefix
        show(trainer, {f"val/{key}": value for key, value in self.last.items()})
        for logger in trainer.loggers:
            row = {f"val/{key}": value for key, value in self.last.items()}
            logger.log_metrics(row, step=gan.iteration)
        fid = self.last[f"{self.prefix}fid"]
        best = fid < self.best_fid
        seconds = time.perf_counter() - start
        if trainer.is_global_zero:
            log.info("%s", _line(gan.iteration, scored, seconds, best))
        if best:
            self.best_fid = fid
            self.best = {"iteration": gan.iteration, **self.last}
            log_best(trainer.loggers, self.best)
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if self.keep_best and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            path = Path(trainer.default_root_dir) / FOLDER / BEST
            # every process calls this: a sharded state is gathered from all of them
            trainer.save_checkpoint(path)
            send_best(trainer.loggers, path)

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed run needs to know: the best so far."""
        return {"best_fid": self.best_fid, "best": self.best, "prefix": self.prefix}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores it."""
        self.best_fid = state_dict["best_fid"]
        if "prefix" in state_dict:  # in earlier versions a FID had one name by any features
            self.best, self.prefix = state_dict["best"], state_dict["prefix"]


def _follow_rank_0(gan: nn.Module) -> None:
    """Gives all processes rank 0's BatchNorm statistics: each has its own, but one is saved."""
    for buffer in gan.buffers():
        distributed.broadcast(buffer, src=0)


def _line(iteration: int, scored: Evaluation, seconds: float, best: bool) -> str:
    """Words one scoring for the log."""
    scores, features = scored.scores, scored.prefix.replace("_", " ")
    coverage = scores[f"{scored.prefix}coverage"]
    words = [f"{features}FID {scored.fid:.4g}", f"coverage {coverage:.3f}"]
    if "classes_reached" in scores and scored.class_shares is not None:
        words.append(f"{scores['classes_reached']:.0f} of {len(scored.class_shares)} classes")
    mark = ", best so far" if best else ""
    return f"scores of iteration {iteration}: {', '.join(words)} ({seconds:.1f} s){mark}"
