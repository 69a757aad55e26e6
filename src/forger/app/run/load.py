"""Loads the networks of a run back from its folder or a checkpoint file.

The whole GAN needs Lightning; the generator alone, to sample from, does not wait for that import.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

import forger
from forger.app.config.messages import listed
from forger.app.config.records import find_untrusted
from forger.app.config.rules_of_runs import run_refusal
from forger.app.config.sections import with_earlier
from forger.app.config.source import TargetError
from forger.app.config.trust import PACKAGES, move, named, targets_in
from forger.app.run.networks import (
    OF_SOURCES,
    Shapes,
    build_condition,
    build_generators,
    build_task,
    check_task,
)
from forger.checkpoints import FOLDER, LAST
from forger.checkpoints.reading import newest_checkpoint, read_checkpoint
from forger.errors import ConfigError, UserError
from forger.random_state import random_state_kept
from forger.sampling.sampler import Sampler
from forger.text import TextFacts

if TYPE_CHECKING:
    from forger.gan import GAN

_WEIGHTS = {"ema": "ema_generator.module.", "raw": "generator."}  # how their names begin
_TASK = "task."
_CPU = torch.device("cpu")
_MISFITS = (
    *(TargetError, HydraException, OmegaConfBaseException, ImportError),
    *(AttributeError, KeyError, RuntimeError, TypeError, ValueError),
)


@dataclass(frozen=True)
class Run:
    """What a checkpoint says of the run that wrote it."""

    folder: Path
    checkpoint: Path  # the file that was read
    cfg: DictConfig  # resolved
    image_shape: tuple[int, int, int]  # channels, height, width
    source_shape: tuple[int, int, int] | None  # of what images are made from, where that is images
    classes: tuple[str, ...]  # names, where the run has a condition that asks for them
    texts: TextFacts | None  # of its captions, where it has a condition of texts
    iteration: int  # the last one that was completed


@dataclass(frozen=True)
class LoadedRun(Run):
    """A run with its GAN, in eval mode on the CPU, with the checkpoint's weights."""

    gan: GAN


def load(
    run: str | Path,
    checkpoint: str = "last",
    weights: str = "ema",
    trust: Sequence[str] = (),
    moved: Mapping[str, str] | None = None,
) -> Sampler:
    """Returns the generator of a run, ready to sample from: float32, eval mode, on the CPU.

    The run may be anybody's: nothing in its files is executed, and its config may name classes of
    our package and torch's alone, and of the modules that `trust` names, see docs/safety.md.

    Args:
        run: a run folder, or a checkpoint file.
        checkpoint: which one of a folder: `last`, `best` or another that it keeps, such as
            `iteration_5000`; a damaged last one gives way to the one before it.
        weights: `ema`, the moving average, or `raw`.
        trust: modules of your own whose classes the run is made of: `["my_nets"]`.
        moved: where classes or modules of yours lie now: `{"old_nets.G": "my_nets.G"}`.

    Raises:
        UserError: there is no checkpoint, it is damaged, does not say how its run was made, names
            what is not trusted, or does not fit this version of forger.
    """
    return load_sampler(run, checkpoint, weights, trust, moved)[1]


def load_sampler(
    run: str | Path,
    checkpoint: str = "last",
    weights: str = "ema",
    trust: Sequence[str] = (),
    moved: Mapping[str, str] | None = None,
) -> tuple[Run, Sampler]:
    """Does what `load` does, and says what the run was; what is no generator need not fit."""
    if weights not in _WEIGHTS:
        raise ConfigError(f"weights={weights}: must be one of {', '.join(_WEIGHTS)}")
    parts = ("model.generator", "condition", "task")
    found, content = _read(run, checkpoint, trust, moved, parts)
    prefix, state = _WEIGHTS[weights], content["state_dict"]
    with _as_misfit(found.checkpoint, content):
        condition = build_condition(found.cfg, found.classes, found.texts)
        facts = Shapes(found.image_shape, found.source_shape), condition
        check_task(found.cfg, *facts)
        networks = build_generators(found.cfg, *facts)
        # Without D, which a task needs for training alone.
        networks |= {name: nn.Identity() for name in ("discriminator", OF_SOURCES)}
        task = build_task(found.cfg, networks, *facts, None, classes=found.classes)
        for part, begin in ((task.generator, prefix), (task, _TASK)):
            own = {key.removeprefix(begin): state[key] for key in state if key.startswith(begin)}
            if part is task:  # without the state of what training alone needs
                own = {key: own[key] for key in own if not key.startswith(task.starts_anew)}
            part.load_state_dict(own)
        return found, task.sampler(task.generator)


def load_run(
    run: str | Path,
    checkpoint: str = "last",
    trust: Sequence[str] = (),
    moved: Mapping[str, str] | None = None,
) -> LoadedRun:
    """Rebuilds the whole GAN of a run; arguments and errors are those of `load`."""
    from forger.app.run.build import build_gan  # imports Lightning

    parts = ("model", "condition", "augment", "task", "loss", "optimizer", "schedule")
    found, content = _read(run, checkpoint, trust, moved, parts)
    with _as_misfit(found.checkpoint, content):
        facts = found.image_shape, found.cfg.seed, found.classes, found.source_shape, found.texts
        gan = build_gan(found.cfg, *facts)
        gan.load_state_dict(content["state_dict"])
        gan.load_factors(content)
    return LoadedRun(**vars(found), gan=gan.eval())


def find_checkpoint(run: str | Path, checkpoint: str = "last", setting: str = "run") -> Path:
    """Returns the file that `run`, typed under `setting`, means: itself, or one of a run folder."""
    if refusal := run_refusal(str(run), checkpoint, setting):
        raise UserError(f"{setting}={run}: {refusal}")
    path = Path(run).expanduser()
    return path if path.is_file() else path / FOLDER / f"{checkpoint}.ckpt"


def refuse_untrusted(
    config: Any, path: Path, trust: Sequence[str], build: Sequence[str], names_only: bool = False
) -> None:
    """Refuses the config of a record, before anything in it is imported or called.

    `trust` is what the user names, `build` the parts that are to be built; `names_only` leaves out
    what is missing, and where things are written or sent.
    """
    if not isinstance(config, dict):
        raise ConfigError(f"{path}: its config is none; give a run that train.py wrote")
    with random_state_kept(_CPU):
        problems = find_untrusted(config, trust, build=build, names_only=names_only)
    if problems:
        raise ConfigError(
            f"{path}: names what a record may not, and nothing of it was run: {listed(problems)}"
        )


def _read(
    run: str | Path,
    checkpoint: str,
    trust: Sequence[str],
    moved: Mapping[str, str] | None,
    build: Sequence[str],
) -> tuple[Run, dict[str, Any]]:
    """Reads a checkpoint, and what it says of its run; `build` are the parts that are wanted."""
    path = find_checkpoint(run, checkpoint)
    whole_run = path.name == LAST and Path(run).expanduser().is_dir()
    newest = newest_checkpoint(path.parent.parent) if whole_run else None
    path, content = newest or (path, read_checkpoint(path))
    if "config" not in content or "image_shape" not in content:
        raise UserError(
            f"{path}: this checkpoint does not hold the config of a forger run, so that its"
            " networks cannot be rebuilt; give one that train.py wrote"
        )
    with _as_misfit(path, content):
        shape = _shape(content["image_shape"])
        source = _shape(content["source_shape"]) if content.get("source_shape") else None
        config = move(OmegaConf.to_container(OmegaConf.create(content["config"])), moved)
    refuse_untrusted(config, path, named(trust, moved), build)
    folder = path.parent.parent if path.parent.name == FOLDER else path.parent
    cfg, classes = OmegaConf.create(with_earlier(config)), content.get("classes", ())
    if OmegaConf.select(cfg, "condition.encoder.cache_dir"):
        cfg.condition.encoder.cache_dir = None  # a record does not decide where things are written
    with _as_misfit(path, content):
        texts = TextFacts.of(content["texts"]) if content.get("texts") else None
    facts = cfg, shape, source, tuple(map(str, classes)), texts, int(content.get("global_step", 0))
    return Run(folder, path, *facts), content


def _shape(sizes: Sequence[Any]) -> tuple[int, int, int]:
    channels, height, width = (int(size) for size in sizes)
    return channels, height, width


@contextmanager
def _as_misfit(path: Path, content: dict[str, Any]) -> Iterator[None]:
    """Keeps the random state, and says which code would fit where rebuilding fails."""
    try:
        with random_state_kept(_CPU):  # for first weights are drawn
            yield
    except _MISFITS as error:
        if isinstance(error, TargetError) and error.target.partition(".")[0] not in PACKAGES:
            raise UserError(f"{path}: {error}") from error
        cause = error.__cause__ or error
        written_by = content.get("forger_version", "an earlier version")
        if commit := content.get("commit"):
            written_by += f", commit {commit}"
        own = ", ".join(sorted(set(targets_in(content.get("config")))))
        raise UserError(
            f"{path}: does not fit {f'{own} as it is now, or ' if own else ''}this version of"
            f" forger ({forger.__version__}); it was written by {written_by}. Use that one, or see"
            f" the run's environment.json. What failed: {' '.join(str(cause).split())[:300]}"
        ) from error
