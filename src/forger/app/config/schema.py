"""The settings that no signature carries: those of train.yaml's own sections, and narrower ranges.

Nothing here is ever built: each class lists settings by annotation, and `check` reads them from the
source, as it reads the signatures of targets. Adding a key to configs/train.yaml adds a line here;
`scoring_schema` has those of evaluate.yaml, generate.yaml and `metrics`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from forger.bounds import (
    Fraction,
    FractionBelowOne,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveFraction,
    PositiveInt,
    Seed,
)

Section: TypeAlias = Any
"""A node whose settings are checked on their own."""

Built: TypeAlias = Annotated[Any, "_target_"]
"""A mapping with a `_target_`, which becomes an object."""

Duration: TypeAlias = Annotated[str, "Timer"]
"""A time as Lightning's Timer reads it: days:hours:minutes:seconds."""


@dataclass
class Run:
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


@dataclass
class Model:
    """`model`: what both architectures share."""

    generator: Section
    discriminator: Section
    prior: Literal["normal", "uniform"]
    ema_decay: FractionBelowOne
    share_fakes: bool
    accumulate: Section
    gradient_clip: Section


@dataclass
class Accumulate:
    """`model.accumulate`."""

    generator: PositiveInt
    discriminator: PositiveInt


@dataclass
class GradientClip:
    """`model.gradient_clip`."""

    generator: PositiveFloat | None
    discriminator: PositiveFloat | None


@dataclass
class PerNetwork:
    """`optimizer` and `schedule`, beside words that only interpolation reads."""

    generator: Section
    discriminator: Section


@dataclass
class Optimizer:
    """Ranges of the settings of torch's optimizers, whose annotations tell types alone."""

    lr: PositiveFloat
    betas: tuple[FractionBelowOne, FractionBelowOne]
    momentum: FractionBelowOne
    alpha: Fraction
    dampening: Fraction
    eps: PositiveFloat
    weight_decay: NonNegativeFloat


@dataclass
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


@dataclass
class Paths:
    """`paths`."""

    data_dir: str
    cache_dir: str
    log_dir: str


@dataclass
class Sweep:
    """`sweep`: of `-m`."""

    fail_fast: bool
    resume: str | None
    trial: Any
