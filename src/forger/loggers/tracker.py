"""What trackers do beyond Lightning's loggers: pictures, best scores, checkpoints, resumed runs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from lightning.pytorch.loggers import Logger
from PIL import Image

from forger.checkpoints import BEST, FOLDER, LAST
from forger.errors import ConfigError
from forger.loggers.metrics_csv import read_rows

log = logging.getLogger(__name__)

CheckpointChoice: TypeAlias = Literal["none", "best", "all"]
"""Which checkpoints are sent: none; the best, when the run ends; every new best, and the last."""


class Tracker(Logger):
    """Mixed into a Lightning logger.

    Training is worth more than its curves: what fails once it runs is told in the log, once, and
    training goes on. `metrics.csv` and the run folder still get everything.

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
        """Checks settings and credentials, before there is any work to lose.

        Raises:
            ConfigError: the run could not start.
        """
        if isinstance(tags := settings.get("tags"), str):  # would become a tag for each letter
            raise ConfigError(f"logger.tags={tags!r}: must be a list, for example [{tags}]")

    def log_picture(self, key: str, picture: Image.Image, step: int) -> None:
        """Sends a picture of a series such as `samples/ema`."""
        raise NotImplementedError

    def log_best(self, scores: Mapping[str, float]) -> None:
        """Takes note of the best scores so far, with their `iteration`."""
        self.best = dict(scores)

    def log_checkpoint(
        self, path: Path, aliases: Sequence[str], metadata: Mapping[str, float]
    ) -> None:
        """Sends a checkpoint, with its iteration and scores; here: nothing."""

    def close(self, exit_code: int) -> None:
        """Ends the run in the tracker: 0 finished, above 128 ended by a signal, else failed."""
        raise NotImplementedError

    def log_earlier(self, first: int, last: int) -> None:
        """Logs rows and sample grids of the run folder, from one iteration to another, in order."""
        found: list[tuple[int, Any]] = list(read_rows(self.folder))
        grids = sorted((self.folder / "samples").glob("[0-9]*_*.png"))
        found += [(int(path.name.partition("_")[0]), path) for path in grids]
        for step, item in sorted(found, key=itemgetter(0)):
            if first <= step <= last and isinstance(item, Path):
                with self.harmless(), Image.open(item, formats=["PNG"]) as picture:
                    self.log_picture(f"samples/{item.stem.partition('_')[2]}", picture, step)
            elif first <= step <= last:
                self.log_metrics(item, step)

    @contextmanager
    def harmless(self) -> Iterator[None]:
        """Keeps what goes wrong inside from ending the training."""
        try:
            yield
        except Exception as error:
            if not self._warned:
                log.warning(
                    "%s cannot take what the run sends (%s: %s); training goes on, metrics.csv"
                    " and the run folder have everything",
                    *(self.title, type(error).__name__, error),
                )
            self._warned = True


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
