"""The settings of `metrics`, evaluate.yaml and generate.yaml, as `schema` has those of train.yaml.

Nothing here is ever built either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from forger.app.config.schema import Section
from forger.bounds import AtLeastTwo, Fraction, PositiveInt, Seed


@dataclass
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


@dataclass
class TrainingScores(Scores):
    """`metrics` of train.yaml."""

    when: Literal["always", "ready"]
    every_n_steps: PositiveInt


@dataclass
class FinalScores(Scores):
    """`metrics` of evaluate.yaml, which lists what is for training only to refuse it."""

    when: Any
    every_n_steps: Any


@dataclass
class Evaluation:
    """The top level of evaluate.yaml."""

    run: str | list[str]
    checkpoint: Literal["last", "best"]
    metrics: Section
    data: Section
    paths: Section
    device: str
    threads: PositiveInt | None
    protocol: str | None
    trust: list[str]
    moved: dict[str, str] | None


@dataclass
class DataNow:
    """`data` of evaluate.yaml."""

    root: str | None
    download: bool | None


@dataclass
class PathsNow:
    """`paths` of evaluate.yaml."""

    cache_dir: str | None


@dataclass
class Generation:
    """The top level of generate.yaml."""

    run: str
    checkpoint: Literal["last", "best"]
    n: PositiveInt
    seed: Seed
    weights: Literal["ema", "raw"]
    npz: bool
    walk: bool
    frames: PositiveInt
    output: str | None
    device: str
    threads: PositiveInt | None
    trust: list[str]
    moved: dict[str, str] | None
