"""What a tracker does beyond Lightning's `Logger`, and what happens when it fails.

Owns the words for both; W&B, TensorBoard and MLflow are in the modules beside this one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from torch import Tensor

from forger.errors import ConfigError
from forger.loggers.history import Earlier

log = logging.getLogger(__name__)

Models: TypeAlias = Literal["none", "best", "all"]
"""Which checkpoints are sent: none; the best, when the run ends; every new best, and the last."""


@dataclass(frozen=True)
class Model:
    """A checkpoint on its way to a tracker.

    Attributes:
        path: of the file, which may be replaced at any time, and is never written to.
        aliases: other names of this version, for example `best`.
        metadata: the iteration, and the scores where there are any.
    """

    path: Path
    aliases: tuple[str, ...] = ()
    metadata: dict[str, float] = field(default_factory=dict)


class Tracker:
    """Mixed into a logger: a tracker for pictures, the best scores and checkpoints.

    A training of days is worth more than its curves: what fails once training runs is told in the
    log, once, and training goes on. `metrics.csv` and the run folder still get everything.

    Attributes:
        log_model: which checkpoints are wanted.
        best: the scores of the best checkpoint so far, and its `iteration`.
    """

    log_model: Models = "none"
    best: Mapping[str, float]
    _warned = False
    _earlier: Earlier | None = None

    @property
    def what(self) -> str:
        """The tracker, as the log names it."""
        return type(self).__name__

    def go_on(self, earlier: Earlier) -> None:
        """Has the run go on, before anything is logged."""
        self._earlier = earlier

    def log_picture(self, key: str, image: Tensor, step: int) -> None:
        """Sends a picture: `(C, H, W)`, uint8, C 1 or 3."""
        raise NotImplementedError

    def log_best(self, scores: Mapping[str, float]) -> None:
        """Takes note of the best scores so far, with their `iteration`."""
        self.best = dict(scores)

    def send_model(self, model: Model) -> None:
        """Sends a checkpoint, whole whatever happens to the file meanwhile; here: nothing."""

    @staticmethod
    def check(settings: Mapping[str, Any]) -> None:
        """Checks settings and credentials, before there is any work to lose.

        Raises:
            ConfigError: the run could not start.
        """

    def close(self, exit_code: int) -> None:
        """Ends the run in the tracker: 0 finished, above 128 ended by a signal, else failed."""
        raise NotImplementedError

    @contextmanager
    def harmless(self) -> Iterator[None]:
        """Keeps what goes wrong inside from ending the training."""
        try:
            yield
        except Exception as error:
            if not self._warned:
                log.warning(
                    "%s cannot take what the run sends (%s: %s); training goes on, metrics.csv and"
                    " the run folder have everything",
                    *(self.what, type(error).__name__, error),
                )
            self._warned = True


def caption(step: int) -> str:
    """Returns the words under a picture."""
    return f"iteration {step:,}"


def flat(config: Mapping[str, Any], separator: str = ".") -> dict[str, Any]:
    """Flattens nested settings: `{"a": {"b": 1}}` becomes `{"a.b": 1}`; lists stay."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            inner = flat(value, separator)
            found |= {f"{key}{separator}{name}": item for name, item in inner.items()}
        else:
            found[str(key)] = value
    return found


def lacking(known: Set[tuple[int, str]], metrics: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Returns the metrics whose iteration and name are not known."""
    return {name: value for name, value in metrics.items() if (step, name) not in known}


def check_tags(tags: Any) -> None:
    """Checks that tags are a list: a word would become a tag for each letter.

    Raises:
        ConfigError: they are one string.
    """
    if isinstance(tags, str):
        raise ConfigError(f"logger.tags={tags!r}: must be a list, for example [{tags}]")
