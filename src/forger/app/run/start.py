"""Where a training starts from: new weights, those of another run, or the run's own checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.trainer.states import RunningStage
from omegaconf import DictConfig

from forger.app.config.messages import type_setting
from forger.app.config.trust import climbs
from forger.app.run.folder import read_status
from forger.app.run.load import find_checkpoint
from forger.callbacks import exact_resume
from forger.callbacks.early_stopping import EarlyStopping
from forger.checkpoints.reading import newest_checkpoint, read_checkpoint
from forger.errors import ConfigError
from forger.gan import GAN
from forger.seeds import STREAMS


@dataclass(frozen=True)
class Start:
    """What a run starts from."""

    folder: Path | None = None  # of the run that goes on; `None`: a new run
    checkpoint: Path | None = None  # the file that it goes on from; `None`: it has none yet
    content: dict[str, Any] | None = None  # of that file
    init_from: str | None = None  # what a new run takes its weights from

    @classmethod
    def of(cls, cfg: DictConfig, folder: Path) -> Start:
        """Reads what the config asks for; a missing or damaged checkpoint is a `UserError`."""
        if cfg.resume is None:
            return cls(init_from=cfg.init_from)
        found = newest_checkpoint(folder)
        if found is None:
            return cls(folder, init_from=cfg.init_from)
        start = cls(folder, *found)
        # files that Lightning's callbacks had written, and now replace, stand in their states
        if exact_resume.KEY not in found[1] or climbs(found[1].get("callbacks")):
            start._refuse(
                f"{found[0].name} does not hold all that a run needs to go on exactly, or its"
                " callbacks name files above a folder"
            )
        return start

    def _refuse(self, why: str) -> None:
        new_run = f"start a new run from its weights: {type_setting('init_from', str(self.folder))}"
        raise ConfigError(f"resume={self.folder}: {why}; {new_run}")

    @property
    def iteration(self) -> int:
        """Completed iterations."""
        return 0 if self.content is None else int(self.content["global_step"])

    def load_weights(self, gan: GAN) -> None:
        """Puts the weights of `init_from` into a new run's networks.

        Raises:
            UserError: there is no readable checkpoint, or it is of other networks.
        """
        if self.init_from is None:
            return
        content = read_checkpoint(find_checkpoint(self.init_from, setting="init_from"))
        anew = tuple(f"task.{name}" for name in gan.task.starts_anew)
        theirs, own = content["state_dict"], gan.state_dict()
        weights = {name: theirs[name] for name in theirs if not name.startswith(anew)}
        try:
            gan.load_state_dict(
                weights | {name: own[name] for name in own if name.startswith(anew)}
            )
        except RuntimeError as error:
            _, first, *more = map(str.strip, str(error).splitlines())
            raise ConfigError(
                f"init_from={self.init_from}: holds other networks than this config asks for:"
                f" {first}{f' and {len(more)} more' if more else ''}; choose the model and data of"
                " that run"
            ) from None
        updates = content.get("earlier_updates", 0) + content.get("global_step", 0)
        gan.ema_generator.earlier_updates = updates

    def check_same_images(self, shape: tuple[int, int, int], now: dict[str, Any] | None) -> None:
        """Refuses images of another shape or fingerprint (`None`: cannot tell) than the run's."""
        if self.content is None:
            return
        then, own_shape = self.content["data"], self.content["image_shape"]
        if own_shape != list(shape) or (then is not None and now is not None and then != now):
            self._refuse(
                f"the training images are others than the run's, {own_shape} each and by their"
                f" fingerprint {then}; point data.root to the old ones"
            )

    def check_unfinished(self, trainer: Trainer, max_time: str | None) -> None:
        """Refuses a run that has finished and may not go further.

        One that was broken off after its last iteration still writes what belongs to its end.

        Raises:
            ConfigError: names each limit that it has reached.
        """
        status = None if self.folder is None else read_status(self.folder)
        if self.content is None or (status or {}).get("status") != "finished":
            return
        if limits := list(_reached(trainer, max_time, self.content)):
            epochs = self.content[exact_resume.KEY]["epoch"]
            keys = " and ".join(f"{limit.partition('=')[0]}=<more>" for limit in limits)
            raise ConfigError(
                f"resume={self.folder}: has reached {' and '.join(limits)} (iteration"
                f" {self.iteration}, epoch {epochs}); to train it further, write {keys}"
            )

    def describe(self) -> list[str]:
        """Returns what the log says of the start."""
        if self.folder is None:
            return [] if self.init_from is None else [f"new run, weights of {self.init_from}"]
        if self.content is None:
            return ["the run had no checkpoint yet: from iteration 0 again"]
        epoch = self.content[exact_resume.KEY]["epoch"] + 1
        lines = [f"{self.checkpoint}, iteration {self.iteration}, in epoch {epoch}"]
        then, now = self.content["threads"], torch.get_num_threads()
        if then != now:
            lines.append(f"{now} CPU threads in place of {then}: the last bits will differ")
        if self.content.get("random_streams") != STREAMS:
            lines.append(
                "written by an earlier version of forger, which drew other random numbers: the run"
                " goes on, but not to the bits of one that was never interrupted"
            )
        return lines


def _reached(trainer: Trainer, max_time: str | None, content: dict[str, Any]) -> Iterator[str]:
    """Yields each limit that a checkpoint has reached, as it is set."""
    epochs = content[exact_resume.KEY]["epoch"]
    if trainer.max_steps not in (-1, None) and content["global_step"] >= trainer.max_steps:
        yield f"trainer.max_steps={trainer.max_steps}"
    if trainer.max_epochs not in (-1, None) and epochs >= trainer.max_epochs:
        yield f"trainer.max_epochs={trainer.max_epochs}"
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        state = content["callbacks"].get(callback.state_key)
        if isinstance(callback, Timer) and state is not None:
            elapsed = state["time_elapsed"].get(RunningStage.TRAINING.value, 0)
            left = callback.time_remaining()  # nothing has been trained yet: the whole limit
            if left is not None and elapsed >= left:
                yield f"trainer.max_time={max_time}"
        if isinstance(callback, EarlyStopping) and state is not None and callback.has_ended(state):
            yield f"callbacks.early_stopping.patience={callback.patience}"
