"""What `check` knows about the parts of a config beyond the signatures of their targets.

Owns which settings the builder fills in itself, and where sections without a target find theirs;
`mains` adds what evaluate.py and generate.py read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

SCHEMA = "forger.app.config.schema"
SCORING_SCHEMA = "forger.app.config.scoring_schema"

Base: TypeAlias = tuple[str, ...]
"""A class by the names it is imported by, the one to show first, and some that derive from it."""


@dataclass(frozen=True)
class Place:
    """One part of the config.

    Args:
        schema: class of `checking.schema` with the settings of a part that has no `_target_`.
        limits: class of `checking.schema` with narrower ranges of a target's settings.
        own: settings of `limits` that the target does not know: the builder takes them out.
        target: whether the part must name a `_target_`.
        base: class that the target must derive from.
        optional: whether the part may be empty.
        shared: settings that only another one uses, with a choice that does.
        needed: what to write for a setting that has no default.
        partial: whether the part must say `_partial_: true`.
        passed: arguments that the builder fills in, with what a user should do instead.
        demanded: those of `passed` that every target here must take.
        offered: settings of train.yaml, with the values at which they do nothing: a function of the
            user's that does not take them is built without.
        kept: settings that the builder reads, and that may not be removed.
        holds: whether members with a `_target_`, of any name, are built.
        words: whether free words may stand here that other settings refer to.
        renamed: settings of earlier versions, with what to write now.
    """

    schema: str | None = None
    limits: str | None = None
    own: frozenset[str] = frozenset()
    target: bool = False
    base: Base = ()
    optional: bool = False
    shared: Mapping[str, str] = field(default_factory=dict)
    needed: Mapping[str, str] = field(default_factory=dict)
    partial: bool = False
    passed: Mapping[str, str] = field(default_factory=dict)
    demanded: frozenset[str] = frozenset()
    offered: Mapping[str, Any] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    holds: bool = False
    words: bool = False
    renamed: Mapping[str, str] = field(default_factory=dict)


_NETWORK = {
    "image_shape": "comes from the data; set data.image_size",
    "gradient_penalty": "comes from the loss; choose loss=wgan_gp, for example",
}
_OPTIMIZER = {"params": "comes from the networks"}
_NO_VALIDATION = "training has no validation loop; for scores write metrics.every_n_steps=<number>"
_NO_TEST = "is for Lightning's validation and tests, which train.py never runs; leave it out"
_TRAINER = {
    **dict.fromkeys(
        ("gradient_clip_val", "gradient_clip_algorithm"),
        "the Trainer cannot clip two networks; write model.gradient_clip.generator=<norm> or"
        " model.gradient_clip.discriminator=<norm>",
    ),
    "accumulate_grad_batches": "the Trainer cannot accumulate for two networks; write"
    " model.accumulate.generator=<batches> or model.accumulate.discriminator=<batches>",
    "logger": "choose loggers with logger=csv, logger=wandb, logger=tensorboard or logger=mlflow",
    "callbacks": "add a callback with '+callbacks.<name>={_target_: ...}'",
    "default_root_dir": "is the run folder; set paths.log_dir or name",
    "enable_progress_bar": "write callbacks.progress=null for no bar",
    "enable_checkpointing": "write callbacks.checkpoint=null for no checkpoints",
    "enable_model_summary": "the plan in the log describes both networks",
    "limit_val_batches": _NO_VALIDATION,
    "num_sanity_val_steps": _NO_VALIDATION,
    "val_check_interval": _NO_VALIDATION,
    "check_val_every_n_epoch": _NO_VALIDATION,
    "limit_test_batches": _NO_TEST,
    "limit_predict_batches": _NO_TEST,
    "inference_mode": _NO_TEST,
    "enable_autolog_hparams": "the run's config is always logged; leave it out",
    "model_registry": "is for Lightning's own platform; leave it out",
    "barebones": "would take metrics and checkpoints away; leave it out",
    "fast_dev_run": "would leave no metrics and no checkpoint; write debug=smoke",
}

_MODULE = ("torch.nn.Module", "torch.nn.modules.module.Module")
_TORCH_OPTIMIZER = ("torch.optim.Optimizer", "torch.optim.optimizer.Optimizer")
_LOSS = ("forger.losses.AdversarialLoss",)


_LIGHTNING = "lightning.pytorch"
_CALLBACK = (
    "lightning.Callback",
    f"{_LIGHTNING}.Callback",
    f"{_LIGHTNING}.callbacks.Callback",
    f"{_LIGHTNING}.callbacks.callback.Callback",
    f"{_LIGHTNING}.callbacks.Checkpoint",
    f"{_LIGHTNING}.callbacks.ProgressBar",
)
_LOGGER = (f"{_LIGHTNING}.loggers.Logger", f"{_LIGHTNING}.loggers.logger.Logger")
_DATA = (
    "lightning.LightningDataModule",
    f"{_LIGHTNING}.LightningDataModule",
    f"{_LIGHTNING}.core.datamodule.LightningDataModule",
    "forger.data.ImageDataModule",
    "forger.data.module.ImageDataModule",
)

_network = Place(target=True, base=_MODULE, passed=_NETWORK, demanded=frozenset({"image_shape"}))
_optimizer = Place(
    target=True,
    base=_TORCH_OPTIMIZER,
    partial=True,
    limits=f"{SCHEMA}.Optimizer",
    passed=_OPTIMIZER,
    demanded=frozenset(_OPTIMIZER),
)
_schedule = Place(target=True)


def scores(schema: str, optional: bool) -> dict[str, Place]:
    """Returns what is known about `metrics`, whose settings a class of `scoring_schema` lists."""
    return {
        "metrics": Place(
            schema=f"{SCORING_SCHEMA}.{schema}",
            optional=optional,
            words=True,
            shared={
                "min_accuracy": "metrics.features=classifier",
                "inception_weights": "metrics.features=inception",
            },
            renamed={"k": "is now metrics.precision_k and metrics.coverage_k; write these"},
        ),
        "metrics.features": Place(target=True, base=("forger.metrics.extractor.FeatureExtractor",)),
    }


# Parts that a word chooses a file for.
GROUPS = frozenset(
    {
        "model",
        "loss",
        "data",
        "optimizer",
        "schedule",
        "trainer",
        "metrics",
        "metrics.features",
        "callbacks",
        "logger",
    }
)

PLACES: dict[str, Place] = {
    "": Place(schema=f"{SCHEMA}.Run"),
    "model": Place(schema=f"{SCHEMA}.Model", words=True),
    "model.generator": _network,
    "model.discriminator": _network,
    "model.accumulate": Place(schema=f"{SCHEMA}.Accumulate"),
    "model.gradient_clip": Place(schema=f"{SCHEMA}.GradientClip"),
    "loss": Place(
        target=True,
        base=_LOSS,
        offered={
            **{"n_critic": 1, "weight_clip": None, "penalty_interval": 1},
            **{"r1_gamma": 0.0, "r2_gamma": 0.0},
        },
    ),
    "data": Place(
        target=True,
        base=_DATA,
        passed={"seed": "comes from the run's seed; write seed=<number>"},
    ),
    "optimizer": Place(schema=f"{SCHEMA}.PerNetwork", limits=f"{SCHEMA}.Optimizer", words=True),
    "optimizer.generator": _optimizer,
    "optimizer.discriminator": _optimizer,
    "schedule": Place(schema=f"{SCHEMA}.PerNetwork", words=True),
    "schedule.generator": _schedule,
    "schedule.discriminator": _schedule,
    "trainer": Place(
        target=True,
        base=(f"{_LIGHTNING}.Trainer", f"{_LIGHTNING}.trainer.trainer.Trainer"),
        limits=f"{SCHEMA}.Trainer",
        own=frozenset({"threads"}),
        kept=frozenset(
            {"accelerator", "devices", "max_epochs", "max_steps", "max_time", "threads"}
        ),
        passed=_TRAINER,
    ),
    **scores("TrainingScores", optional=True),
    "callbacks": Place(holds=True),
    "logger": Place(holds=True, words=True),
    "paths": Place(schema=f"{SCHEMA}.Paths", words=True),
    "sweep": Place(schema=f"{SCHEMA}.Sweep"),
}

IN_CALLBACKS = Place(base=_CALLBACK)
IN_LOGGER = Place(
    base=_LOGGER,
    passed={
        "save_dir": "is the run folder; set paths.log_dir or name",
        "resume_at": "comes from the run that goes on; write resume=<run folder>",
    },
    demanded=frozenset({"save_dir"}),
)
