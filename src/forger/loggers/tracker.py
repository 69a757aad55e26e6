"""What trackers do beyond Lightning's loggers: pictures, best scores, checkpoints, resumed runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from forger.checkpoints import BEST, FOLDER, LAST
from forger.loggers.metrics_csv import read_rows

log = logging.getLogger(__name__)

CheckpointChoice = Literal["none", "best", "all"]  # `all`: each new best, and the last


class Tracker(Logger):
    """Mixed into a Lightning logger, whose class writes `_start`, the `_send_...` and `_end`.

    What fails once training runs is told in the log, once, and training goes on.

    Attributes:
        title: the tracker, as the log names it.
        folder: of the run.
        log_model: which checkpoints are sent.
        best: the scores of the best checkpoint so far, and its `iteration`.
        resume_at: the iteration that a resumed run goes on after; `None`: a new run.
    """

    title = ""
    folder: Path
    log_model: CheckpointChoice = "none"
    best: Mapping[str, float] = MappingProxyType({})
    resume_at: int | None = None
    _warned = False

    @staticmethod
    def check(settings: Mapping[str, Any]) -> None:
        """Raises `ConfigError` where a run could not start, before there is any work to lose."""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Starts the run with its config; a resumed one is sent what the tracker lacks of it."""
        first = self._start(params)
        if self.resume_at is not None and first is not None:
            self.log_earlier(first, self.resume_at)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Sends a row."""
        self._try(step or 0, self._send_row, dict(metrics), step)

    @rank_zero_only
    def log_picture(
        self, key: str, picture: Image.Image, step: int, caption: str | None = None
    ) -> None:
        """Sends a picture of a series such as `samples/ema`; W&B alone has a place for captions."""
        self._try(step, self._send_picture, key, picture, step, caption)

    def log_best(self, scores: Mapping[str, float]) -> None:
        """Takes note of the best scores so far, with their `iteration`."""
        self.best = dict(scores)

    @rank_zero_only
    def log_checkpoint(
        self, path: Path, aliases: Sequence[str], metadata: Mapping[str, float]
    ) -> None:
        """Sends a checkpoint, with its iteration and scores."""
        self._try(0, self._send_checkpoint, path, list(aliases), dict(metadata))

    @rank_zero_only
    def close(self, exit_code: int) -> None:
        """Ends a run that has started: 0 finished, above 128 ended by a signal, else failed."""
        self._try(0, self._end, exit_code)

    def log_earlier(self, first: int, last: int) -> None:
        """Sends rows and sample grids of the run folder, from one iteration to another."""
        found: list[tuple[int, Any]] = list(read_rows(self.folder))
        grids = sorted((self.folder / "samples").glob("[0-9]*_*.png"))
        found += [(int(path.name.partition("_")[0]), path) for path in grids]
        for step, item in sorted(found, key=itemgetter(0)):
            if first <= step <= last:
                send = self._send_grid if isinstance(item, Path) else self._send_row
                self._try(step, send, item, step)

    def _send_grid(self, path: Path, step: int) -> None:
        with Image.open(path, formats=["PNG"]) as picture:
            self._send_picture(f"samples/{path.stem.partition('_')[2]}", picture, step, None)

    def _try(self, step: int, send: Callable[..., None], *arguments: Any) -> bool:
        """Returns whether it went well; what goes wrong must not end the training."""
        try:
            send(*arguments)
        except Exception as error:
            if not self._warned:
                log.warning(
                    "%s cannot take what the run sends (%s: %s); training goes on, metrics.csv"
                    " and the run folder have everything",
                    *(self.title, type(error).__name__, error),
                )
            self._warned = True
            return False
        return True

    def _start(self, params: Any) -> int | None:
        """Starts the run; returns the first iteration that the tracker lacks, None: nothing."""

    def _send_row(self, row: dict[str, Any], step: int | None) -> None: ...
    def _send_picture(
        self, key: str, picture: Image.Image, step: int, caption: str | None
    ) -> None: ...
    def _send_checkpoint(self, path: Path, aliases: list[str], about: dict[str, Any]) -> None: ...
    def _end(self, exit_code: int) -> None: ...


def trackers_of(loggers: Iterable[Logger]) -> list[Tracker]:
    """Returns the trackers among loggers."""
    return [logger for logger in loggers if isinstance(logger, Tracker)]


def send_checkpoints(loggers: Iterable[Logger], folder: Path, iteration: int) -> None:
    """Sends the checkpoints of a run that has finished to the trackers that want them.

    The best one; where there are no scores, the last; both where all are wanted.
    """
    best, last = folder / FOLDER / BEST, folder / FOLDER / LAST
    scored = best.is_file()
    for tracker in trackers_of(loggers):
        if scored and tracker.log_model == "best":
            tracker.log_checkpoint(best, ("best", "latest"), tracker.best)
        elif last.is_file() and tracker.log_model != "none":
            aliases = ("last", "latest") if scored else ("best", "last", "latest")
            tracker.log_checkpoint(last, aliases, {"iteration": iteration})


def close_trackers(loggers: Iterable[Logger], exit_code: int) -> None:
    """Ends the run in every tracker that has started one; exit codes as in `Tracker.close`."""
    for tracker in trackers_of(loggers):
        tracker.close(exit_code)
