"""What a run tells its trackers, whichever they are. Owns the order of it, and plain loggers.

A tracker of ours has a method for each of these; Lightning's own loggers get what they can take.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from torch import Tensor

from forger.checkpoints import FOLDER, LAST
from forger.loggers.tracker import Model, Tracker, caption
from forger.pictures import to_pil

BEST = "best.ckpt"


def log_image(logger: Logger, key: str, image: Tensor, step: int) -> None:
    """Sends a picture to the tracker; a logger that takes none is passed over.

    Args:
        logger: of any kind.
        key: name of the picture's series, for example `samples/ema`.
        image: `(C, H, W)`, uint8, C 1 or 3.
        step: the iteration.
    """
    if isinstance(logger, Tracker):
        logger.log_picture(key, image, step)
    elif isinstance(logger, WandbLogger):
        pictures, captions = [to_pil(image)], [caption(step)]  # W&B would rescale a tensor
        logger.log_image(key=key, images=pictures, caption=captions, step=step)
    elif isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(key, image, global_step=step)


def log_best(loggers: Iterable[Logger], scores: Mapping[str, float]) -> None:
    """Tells the trackers the scores of the best checkpoint so far.

    Args:
        loggers: of the run.
        scores: by name, and the `iteration` that they are of.
    """
    for logger in loggers:
        if isinstance(logger, Tracker):
            logger.log_best(scores)


def send_best(loggers: Iterable[Logger], path: Path) -> None:
    """Sends a new best checkpoint to the trackers that want every one."""
    for logger in loggers:
        if isinstance(logger, Tracker) and logger.log_model == "all":
            logger.send_model(Model(path, ("best", "latest"), dict(logger.best)))


def send_models(loggers: Iterable[Logger], folder: Path, iteration: int) -> None:
    """Sends the checkpoints of a run that has finished to the trackers that want them.

    The best one; where there are no scores, the last; both where all are wanted.

    Args:
        loggers: of the run.
        folder: of the run.
        iteration: the last one.
    """
    best, last = folder / FOLDER / BEST, folder / FOLDER / LAST
    for logger in loggers:
        if not isinstance(logger, Tracker) or logger.log_model == "none":
            continue
        scored = best.is_file()
        if scored and logger.log_model == "best":
            logger.send_model(Model(best, ("best", "latest"), dict(logger.best)))
        elif last.is_file():
            aliases = ("last", "latest") if scored else ("best", "last", "latest")
            logger.send_model(Model(last, aliases, {"iteration": iteration}))


def close_loggers(loggers: Iterable[Logger], exit_code: int) -> None:
    """Ends the run in every tracker, so that the next one in this process starts its own.

    Args:
        loggers: of the run; those that never started anything are left alone.
        exit_code: 0 when the run finished, above 128 when a signal ended it, anything else when it
            failed.
    """
    for logger in loggers:
        if isinstance(logger, Tracker):
            logger.close(exit_code)
            continue
        logger.finalize("success" if exit_code == 0 else "failed")
        if isinstance(logger, WandbLogger) and logger._experiment is not None:
            logger._experiment.finish(exit_code=exit_code)
