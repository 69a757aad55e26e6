"""The settings that no signature carries: those of the main configs' own sections, and ranges.

Nothing here is ever built: each class lists settings and the values that they may have. Adding a
key to configs/train.yaml adds a line here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias, get_type_hints

from forger.bounds import (
    AtLeastTwo,
    Fraction,
    FractionBelowOne,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveFraction,
    PositiveInt,
    Seed,
)


class Section:
    """A group of settings that is checked on its own."""


def _not_built(value: Any) -> str | None:
    built = isinstance(value, dict) and "_target_" in value
    return None if built else "a mapping with a _target_"


def _no_duration(value: Any) -> str | None:
    """Admits what Lightning's Timer does, a time of 0 left out: such a run would not begin."""
    if isinstance(value, str) and re.fullmatch(r"\d+:\d\d:\d\d:\d\d", value.strip(), re.ASCII):
        return None if re.search(r"[1-9]", value) else "above zero"
    return "days:hours:minutes:seconds, for example 00:08:00:00"


Built: TypeAlias = Annotated[dict[str, Any], _not_built]
"""A mapping with a `_target_`, which becomes an object."""

Duration: TypeAlias = Annotated[str, _no_duration]
"""A time as Lightning's Timer reads it: days:hours:minutes:seconds."""


@cache
def types_of(schema: type) -> Mapping[str, Any]:
    """Returns the settings of one of the classes below, each with its type."""
    return get_type_hints(schema, include_extras=True)


class Train:
    """The top level of train.yaml."""

    name: str
    seed: Seed | None
    objective: str | None
    dry_run: bool
    compile: bool
    resume: str | None
    init_from: str | None
    trust: list[str]
    moved: dict[str, str] | None
    model: Section
    loss: Section
    data: Section
    optimizer: Section
    schedule: Section
    trainer: Section
    metrics: Section
    callbacks: Section
    logger: Section
    paths: Section
    sweep: Section


class Model:
    """`model`: what both architectures share."""

    generator: Section
    discriminator: Section
    prior: Literal["normal", "uniform"]
    ema_decay: FractionBelowOne
    share_fakes: bool
    accumulate: Section
    gradient_clip: Section


class Accumulate:
    """`model.accumulate`."""

    generator: PositiveInt
    discriminator: PositiveInt


class GradientClip:
    """`model.gradient_clip`."""

    generator: PositiveFloat | None
    discriminator: PositiveFloat | None


class PerNetwork:
    """`optimizer` and `schedule`, beside settings that only interpolation reads."""

    generator: Section
    discriminator: Section


class Optimizer:
    """Ranges of the settings of torch's optimizers, whose annotations tell types alone."""

    lr: PositiveFloat
    betas: tuple[FractionBelowOne, FractionBelowOne]
    momentum: FractionBelowOne
    alpha: Fraction
    dampening: Fraction
    eps: PositiveFloat
    weight_decay: NonNegativeFloat


class Trainer:
    """Ranges of Lightning's Trainer, and `threads`, which is ours."""

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"]
    strategy: Literal["auto", "single_device", "ddp", "ddp_find_unused_parameters_true"] | Built
    devices: PositiveInt | Literal[-1, "auto"] | list[NonNegativeInt]
    num_nodes: PositiveInt
    precision: Literal[
        "auto", "32-true", "32", 32, "bf16-mixed", "16-mixed", "bf16-true", "64-true", 64
    ]
    max_epochs: PositiveInt | Literal[-1] | None
    min_epochs: PositiveInt | None
    max_steps: PositiveInt | Literal[-1]
    min_steps: PositiveInt | None
    max_time: Duration | None
    log_every_n_steps: PositiveInt
    limit_train_batches: PositiveInt | PositiveFraction | None
    overfit_batches: NonNegativeInt | Fraction
    reload_dataloaders_every_n_epochs: NonNegativeInt
    profiler: Literal["simple", "advanced"] | Built | None
    plugins: Built | list[Built] | None
    threads: PositiveInt | None


class Paths:
    """`paths`."""

    data_dir: str
    cache_dir: str
    log_dir: str


class Sweep:
    """`sweep`: of `-m`."""

    fail_fast: bool
    resume: str | None
    trial: Any


class Scores:
    """`metrics`: what is scored, and how."""

    features: Section
    num_fake: PositiveInt | None
    num_real: PositiveInt | None
    reference: Literal["test", "train"]
    weights: Literal["ema", "raw"]
    seed: Seed
    precision_k: PositiveInt
    coverage_k: PositiveInt
    neighbour_images: PositiveInt
    kid_subsets: PositiveInt
    kid_subset_size: AtLeastTwo
    splits: PositiveInt
    min_accuracy: Fraction | None
    inception_weights: str | None


class TrainingScores(Scores):
    """`metrics` of train.yaml."""

    when: Literal["always", "ready"]
    every_n_steps: PositiveInt


class FinalScores(Scores):
    """`metrics` of evaluate.yaml, which lists what is for training only to refuse it."""

    when: Any
    every_n_steps: Any


class _OfARun:
    """What evaluate.yaml and generate.yaml share."""

    checkpoint: Literal["last", "best"]
    device: str
    threads: PositiveInt | None
    trust: list[str]
    moved: dict[str, str] | None


class Evaluate(_OfARun):
    """The top level of evaluate.yaml."""

    run: str | list[str]
    metrics: Section
    data: Section
    paths: Section
    protocol: str | None


class EvaluateData:
    """`data` of evaluate.yaml."""

    root: str | None
    download: bool | None


class EvaluatePaths:
    """`paths` of evaluate.yaml."""

    cache_dir: str | None


class Generate(_OfARun):
    """The top level of generate.yaml."""

    run: str
    n: PositiveInt
    seed: Seed
    weights: Literal["ema", "raw"]
    npz: bool
    walk: bool
    frames: PositiveInt
    output: str | None
