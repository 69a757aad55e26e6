"""The settings that no signature carries: those of the main configs' own sections, and ranges.

Each mapping lists settings with the types of their values. Adding a key to configs/train.yaml adds
a line here.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeAlias

from forger.bounds import (
    AtLeastTwo,
    Fraction,
    FractionBelowOne,
    NonNegativeFloat,
    NonNegativeInt,
    Port,
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


Types: TypeAlias = dict[str, Any]
"""Settings by name, each with its type."""
Built: TypeAlias = Annotated[dict[str, Any], _not_built]
Duration: TypeAlias = Annotated[str, _no_duration]

_EACH = ("generator", "discriminator")
_OF_RECORDS: Types = {"trust": list[str], "moved": dict[str, str] | None}

TRAIN: Types = {
    **{"name": str, "seed": Seed | None, "objective": str | None},
    **dict.fromkeys(("dry_run", "compile", "report"), bool),
    **dict.fromkeys(("resume", "init_from"), str | None),
    **dict.fromkeys(("model", "loss", "data", "optimizer", "schedule", "trainer"), Section),
    **dict.fromkeys(
        ("task", "condition", "text", "augment", "metrics", "callbacks", "logger"), Section
    ),
    **dict.fromkeys(("paths", "sweep"), Section),
    **_OF_RECORDS,
}
MODEL: Types = {
    **dict.fromkeys((*_EACH, "accumulate", "gradient_clip"), Section),
    "prior": Literal["normal", "uniform"],
    "ema_decay": FractionBelowOne,
    "ema_half_life": PositiveFloat | None,
    "share_fakes": bool | None,
}
ACCUMULATE: Types = dict.fromkeys(_EACH, PositiveInt)
# what else than learning rates follows a schedule; a task of your own may know more
SCHEDULED = ("penalty", "beta2", "ema", "augment", "instance_noise")
SCHEDULE: Types = dict.fromkeys((*_EACH, *SCHEDULED), Section)
GRADIENT_CLIP: Types = dict.fromkeys(_EACH, PositiveFloat | None)
PER_NETWORK: Types = dict.fromkeys(_EACH, Section)  # beside settings that only interpolation reads
PATHS: Types = dict.fromkeys(("data_dir", "cache_dir", "log_dir"), str)
SWEEP: Types = {"fail_fast": bool, "resume": str | None, "trial": Any}

OPTIMIZER: Types = {  # ranges: the annotations of torch's optimizers tell types alone
    **{"lr": PositiveFloat, "eps": PositiveFloat, "weight_decay": NonNegativeFloat},
    "betas": tuple[FractionBelowOne, FractionBelowOne],
    **{"momentum": FractionBelowOne, "alpha": Fraction, "dampening": Fraction},
}
TRAINER: Types = {  # ranges of Lightning's Trainer, and `threads`, which is ours
    "accelerator": Literal["auto", "cpu", "gpu", "cuda", "mps"],
    "strategy": Literal["auto", "single_device", "ddp", "ddp_find_unused_parameters_true"] | Built,
    "devices": PositiveInt | Literal[-1, "auto"] | list[NonNegativeInt],
    "num_nodes": PositiveInt,
    "precision": Literal[
        "auto", "32-true", "32", 32, "bf16-mixed", "16-mixed", "bf16-true", "64-true", 64
    ],
    **{"max_epochs": PositiveInt | Literal[-1] | None, "max_steps": PositiveInt | Literal[-1]},
    **dict.fromkeys(("min_epochs", "min_steps", "threads"), PositiveInt | None),
    "max_time": Duration | None,
    "log_every_n_steps": PositiveInt,
    "limit_train_batches": PositiveInt | PositiveFraction | None,
    "overfit_batches": NonNegativeInt | Fraction,
    "reload_dataloaders_every_n_epochs": NonNegativeInt,
    "profiler": Literal["simple", "advanced"] | Built | None,
    "plugins": Built | list[Built] | None,
}

_SCORES: Types = {
    "features": Section,
    **{"num_fake": PositiveInt | None, "num_real": PositiveInt | None, "seed": Seed},
    **{"reference": Literal["test", "train"], "weights": Literal["ema", "raw"]},
    **dict.fromkeys(("precision_k", "coverage_k", "neighbour_images", "splits"), PositiveInt),
    **{"kid_subsets": PositiveInt, "kid_subset_size": AtLeastTwo},
    **{"min_accuracy": Fraction | None, "inception_weights": str | None},
}
TRAINING_SCORES = _SCORES | {"when": Literal["always", "ready"], "every_n_steps": PositiveInt}
# evaluate.yaml lists what is for training only to refuse it
FINAL_SCORES = _SCORES | {"when": Any, "every_n_steps": Any}

_OF_A_RUN: Types = {
    "checkpoint": str,
    **{"device": str, "threads": PositiveInt | None},
    **_OF_RECORDS,
}
DIRECTION: TypeAlias = Literal["a_to_b", "b_to_a"]
EVALUATE = _OF_A_RUN | {
    **{"run": str | list[str], "protocol": str | None, "direction": DIRECTION},
    "classification_accuracy": bool,
    **dict.fromkeys(("metrics", "data", "paths"), Section),
}
EVALUATE_DATA: Types = {"root": str | None, "download": bool | None}
EVALUATE_PATHS: Types = {"cache_dir": str | None}
LABELS: TypeAlias = str | int | list[str | int] | None  # names or numbers of classes
TEXTS: TypeAlias = str | list[str] | None
GENERATE = _OF_A_RUN | {
    **{"text": TEXTS, "text_file": str | None},
    **{"run": str, "label": LABELS, "n": PositiveInt | None, "seed": Seed},
    **{"input": str | None, "direction": DIRECTION, "dropout": bool},
    **{"project": str | None, "directions": PositiveInt | None, "reach": PositiveFloat},
    "truncation": NonNegativeFloat,
    **{"weights": Literal["ema", "raw"], "npz": bool, "walk": Section, "frames": PositiveInt},
    "film": Literal["gif", "mp4"],
    "output": str | None,
}
REPORT: Types = {"run": str | list[str], "output": str | None}
EXPORT = _OF_A_RUN | {
    **{"run": str, "format": Literal["onnx", "torch_export", "safetensors", "html"]},
    **{"weights": Literal["ema", "raw"], "pixels": Literal["uint8", "unit"] | None},
    **{"direction": DIRECTION, "truncation": NonNegativeFloat, "license": str},
    **{"web_runtime": str | None, "output": str | None, "paths": Section},
}
del EXPORT["device"]  # the processor's
EXPORT_PATHS: Types = {"cache_dir": str}
EXPLORE = _OF_A_RUN | {
    **{"run": str, "host": str, "port": Port, "data": Section, "paths": Section},
}
EXPLORE_DATA: Types = {"root": str | None}
WALK: Types = {"noise": bool, "labels": LABELS, "texts": TEXTS}
