"""From a run folder back to its networks. Owns where checkpoints lie and how they are read.

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
from forger.app.config.importing import TargetError
from forger.app.config.messages import listed
from forger.app.config.records import PACKAGES, find_untrusted, move, named, targets_in
from forger.app.run.instantiate import instantiate
from forger.checkpoints import FOLDER, LAST
from forger.checkpoints.reading import newest_checkpoint, read_checkpoint
from forger.errors import ConfigError, UserError
from forger.random_state import random_state_kept
from forger.sampling.sampler import Sampler

if TYPE_CHECKING:
    from forger.gan import GAN

_TRAINING = ("optimizer", "schedule")
_WEIGHTS = {"ema": "ema_generator.module.", "raw": "generator."}  # how their names begin


@dataclass(frozen=True)
class Origin:
    """What a checkpoint says of the run that wrote it.

    Attributes:
        folder: of the run.
        checkpoint: the file that was read.
        cfg: of the run, resolved.
        image_shape: channels, height, width.
        iteration: completed iterations.
    """

    folder: Path
    checkpoint: Path
    cfg: DictConfig
    image_shape: tuple[int, int, int]
    iteration: int


@dataclass(frozen=True)
class Run(Origin):
    """A run that has been read back.

    Attributes:
        gan: in eval mode on the CPU, with the checkpoint's weights.
    """

    gan: GAN

    def sampler(self, weights: str = "ema") -> Sampler:
        """Returns what generates: the averaged generator, or with `raw` the trained one itself."""
        averaged = self.gan.ema_generator.module
        return Sampler(self.gan.generator if weights == "raw" else averaged, self.gan.prior)


def forger_version() -> str:
    """Returns the installed version of this package."""
    return forger.__version__


def find_checkpoint(run: str | Path, checkpoint: str = "last", setting: str = "run") -> Path:
    """Returns the file that `run` means: itself, or a run folder's last or best checkpoint.

    Args:
        run: a run folder, or a checkpoint file.
        checkpoint: which one of a folder, `last` or `best`.
        setting: what the user wrote it under.

    Raises:
        UserError: there is none.
    """
    path = Path(run).expanduser()
    if path.is_dir():
        path = path / FOLDER / f"{checkpoint}.ckpt"
    if path.is_file():
        return path
    hint = ""
    if path.with_name("last.ckpt").is_file():
        hint = "; there is a last.ckpt: write checkpoint=last (a run without scores has no best)"
    raise UserError(f"{setting}={run}: no checkpoint there; looked for {path}{hint}")


def load_run(
    run: str | Path,
    checkpoint: str = "last",
    trust: Sequence[str] = (),
    moved: Mapping[str, str] | None = None,
) -> Run:
    """Rebuilds the GAN of a run from its folder or a checkpoint file.

    Nothing in the file is executed: it is read with `weights_only=True`, and its config may name
    classes of known packages only, see docs/runs.md.

    Args:
        run: a run folder, or a checkpoint file.
        checkpoint: which one of a folder, `last` or `best`; a damaged last one gives way to the
            one before it.
        trust: further modules whose classes the run's config may name.
        moved: new places of classes and modules, by their old ones.

    Raises:
        UserError: there is no checkpoint, it is damaged, does not say how its run was made, names
            what is not trusted, or does not fit this version of forger.
    """
    from forger.app.run.build import build_gan  # imports Lightning

    origin, content = _read(run, checkpoint, trust, moved, ("model", "loss", *_TRAINING))
    with _fitting(origin.checkpoint, content):
        gan = build_gan(origin.cfg, origin.image_shape, origin.cfg.seed)
        gan.load_state_dict(content["state_dict"])
    return Run(**vars(origin), gan=gan.eval())


def load_sampler(
    run: str | Path,
    checkpoint: str = "last",
    weights: str = "ema",
    trust: Sequence[str] = (),
    moved: Mapping[str, str] | None = None,
) -> tuple[Origin, Sampler]:
    """Rebuilds the generator alone, from the same files as `load_run`.

    Args:
        run: a run folder, or a checkpoint file.
        checkpoint: which one of a folder, `last` or `best`.
        weights: `ema`, the moving average, or `raw`.
        trust: further modules whose classes the run's config may name.
        moved: new places of classes and modules, by their old ones.

    Returns:
        What the run was, and what generates as its own `Run.sampler(weights)` would.

    Raises:
        UserError: as `load_run`, but what is not of the generator need not fit.
    """
    origin, content = _read(run, checkpoint, trust, moved, ("model.generator",))
    prefix, own = _WEIGHTS[weights], {}
    for name, tensor in content["state_dict"].items():
        if name.startswith(prefix):
            own[name.removeprefix(prefix)] = tensor
    with _fitting(origin.checkpoint, content):
        node, shape = origin.cfg.model.generator, origin.image_shape
        generator: nn.Module = instantiate(node, nn.Module, image_shape=shape)
        generator.load_state_dict(own)
        sampler = Sampler(generator, origin.cfg.model.prior)
    return origin, sampler


def _read(
    run: str | Path,
    checkpoint: str,
    trust: Sequence[str],
    moved: Mapping[str, str] | None,
    build: Sequence[str],
) -> tuple[Origin, dict[str, Any]]:
    """Reads a checkpoint, and what it says of its run; `build` are the parts that are wanted."""
    path = find_checkpoint(run, checkpoint)
    whole_run = path.name == LAST and Path(run).expanduser().is_dir()
    found = newest_checkpoint(path.parent.parent) if whole_run else None
    path, content = found or (path, read_checkpoint(path))
    if "config" not in content or "image_shape" not in content:
        raise UserError(
            f"{path}: this checkpoint does not hold the config of a forger run, so that its"
            " networks cannot be rebuilt; give one that train.py wrote"
        )
    folder = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    with _fitting(path, content):
        channels, height, width = (int(size) for size in content["image_shape"])
        config = move(OmegaConf.to_container(OmegaConf.create(content["config"])), moved)
    refuse_untrusted(config, path, named(trust, moved), build)
    cfg = OmegaConf.create(config)
    shape = (channels, height, width)
    return Origin(folder, path, cfg, shape, int(content.get("global_step", 0))), content


def refuse_untrusted(
    config: Any, path: Path, trust: Sequence[str], build: Sequence[str], names_only: bool = False
) -> None:
    """Refuses the config of a record, before anything in it is imported or called.

    Args:
        config: as plain containers.
        path: of the record.
        trust: modules and classes that the user names.
        build: parts that are to be built.
        names_only: whether to leave out what is missing, and where things are written or sent.

    Raises:
        ConfigError: it names what a record may not name.
    """
    if not isinstance(config, dict):
        raise ConfigError(f"{path}: its config is none; give a run that train.py wrote")
    with random_state_kept(torch.device("cpu")):
        problems = find_untrusted(config, trust, build=build, names_only=names_only)
    if problems:
        raise ConfigError(
            f"{path}: names what a record may not, and nothing of it was run: {listed(problems)}"
        )


@contextmanager
def _fitting(path: Path, content: dict[str, Any]) -> Iterator[None]:
    """Rebuilds from a checkpoint; the random state is kept, for first weights are drawn.

    Raises:
        UserError: in place of what this version raises of another version's checkpoint, or the
            user's code of another state of it.
    """
    try:
        with random_state_kept(torch.device("cpu")):
            yield
    except TargetError as error:
        if error.target.partition(".")[0] in PACKAGES:
            raise UserError(_misfit(path, content, error)) from error
        raise UserError(f"{path}: {error}") from error
    except (HydraException, OmegaConfBaseException, ImportError, *_MISFITS) as error:
        raise UserError(_misfit(path, content, error)) from error


_MISFITS = (AttributeError, KeyError, RuntimeError, TypeError, ValueError)


def load(
    run: str | Path,
    checkpoint: str = "last",
    weights: str = "ema",
    trust: Sequence[str] = (),
    moved: Mapping[str, str] | None = None,
) -> Sampler:
    """Returns the generator of a run, ready to sample from: float32, eval mode, on the CPU.

    The run may be anybody's: its config may name classes of our package and torch's alone, and of
    the modules that `trust` names.

    Args:
        run: a run folder, or a checkpoint file.
        checkpoint: which one of a folder, `last` or `best`.
        weights: `ema`, the moving average, or `raw`.
        trust: modules of your own whose classes the run is made of: `["my_nets"]`.
        moved: where classes or modules of yours lie now: `{"old_nets.G": "my_nets.G"}`.

    Raises:
        UserError: see `load_sampler`.
    """
    if weights not in ("ema", "raw"):
        raise UserError(f"weights={weights}: must be one of ema, raw")
    if checkpoint not in ("last", "best"):
        raise UserError(f"checkpoint={checkpoint}: must be one of last, best")
    return load_sampler(run, checkpoint, weights, trust, moved)[1]


def _misfit(path: Path, content: dict[str, Any], error: Exception) -> str:
    """Says that a checkpoint and this code do not belong together, and which code would."""
    cause = error.__cause__ or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()] or [repr(cause)]
    made, commit = content.get("forger_version", "an earlier version"), content.get("commit")
    own = ", ".join(sorted(set(targets_in(content.get("config")))))
    return (
        f"{path}: does not fit {f'{own} as it is now, or ' if own else ''}this version of forger"
        f" ({forger_version()}); it was written by {made}{f', commit {commit}' if commit else ''}."
        f" Use that one, or see the run's environment.json. What failed: {' '.join(lines[:2])}"
    )
