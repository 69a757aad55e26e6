"""What differs between trackers: taking a picture, and ending a run. Owns both for all of them."""

from __future__ import annotations

from collections.abc import Iterable

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from torch import Tensor

from forger.pictures import to_pil


def log_image(logger: Logger, key: str, image: Tensor, step: int) -> None:
    """Sends a picture to the tracker; a logger that takes none is passed over.

    Args:
        logger: of any kind.
        key: name of the picture's series, for example `samples/ema`.
        image: `(C, H, W)`, uint8, C 1 or 3.
        step: the iteration.
    """
    if isinstance(logger, WandbLogger):
        logger.log_image(key=key, images=[to_pil(image)], step=step)  # W&B would rescale a tensor
    elif isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(key, image, global_step=step)


def close_loggers(loggers: Iterable[Logger], exit_code: int) -> None:
    """Ends the run in every tracker, so that the next one in this process starts its own.

    Args:
        loggers: of the run; those that never started anything are left alone.
        exit_code: 0 when the run finished, anything else when it did not. W&B shows it as finished
            or failed.
    """
    for logger in loggers:
        logger.finalize("success" if exit_code == 0 else "failed")
        if isinstance(logger, WandbLogger) and logger._experiment is not None:
            logger._experiment.finish(exit_code=exit_code)
