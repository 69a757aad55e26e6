"""What is known about the parts of each script's config beyond the signatures of their targets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from forger.app.config import schema
from forger.app.config.rules import train_rules
from forger.app.config.schema import Types
from forger.app.config.score_rules import evaluate_rules, generate_rules, score_rules
from forger.app.config.signatures import Base
from forger.app.config.values import CheckedValues, Findings


@dataclass(frozen=True)
class Section:
    """One part of a config.

    Args:
        schema: settings of a part that has no `_target_`.
        limits: narrower ranges of a target's settings.
        own: settings of `limits` that the target does not know: the builder takes them out.
        target: whether the part must name a `_target_`.
        base: class that the target must derive from.
        optional: whether the part may be empty.
        used_with: settings that only another one uses, with a choice that does.
        partial: whether the part must say `_partial_: true`.
        filled_in: arguments that the builder gives, with what a user should do instead.
        must_take: those of `filled_in` that every target here must take.
        neutral: settings of train.yaml, with the values at which they do nothing: a function of the
            user's that does not take them is built without.
        kept: settings that the builder reads, and that may not be removed.
        objects: whether members with a `_target_`, of any name, are built.
        free: whether settings of any name may stand here that other settings refer to.
    """

    schema: Types = field(default_factory=dict)
    limits: Types = field(default_factory=dict)
    own: frozenset[str] = frozenset()
    target: bool = False
    base: Base = ()
    optional: bool = False
    used_with: Mapping[str, str] = field(default_factory=dict)
    partial: bool = False
    filled_in: Mapping[str, str] = field(default_factory=dict)
    must_take: frozenset[str] = frozenset()
    neutral: Mapping[str, Any] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    objects: bool = False
    free: bool = False


# Parts that an override chooses a file for.
GROUPS = frozenset(
    {"model", "loss", "data", "optimizer", "schedule", "trainer", "metrics", "callbacks", "logger"}
) | {"metrics.features"}

_LIGHTNING = "lightning.pytorch"
_network = Section(
    target=True,
    base=("torch.nn.Module", "torch.nn.modules.module.Module"),
    filled_in={
        "image_shape": "comes from the data; set data.image_size",
        "gradient_penalty": "comes from the loss; choose loss=wgan_gp, for example",
    },
    must_take=frozenset({"image_shape"}),
)
_optimizer = Section(
    target=True,
    base=("torch.optim.Optimizer", "torch.optim.optimizer.Optimizer"),
    partial=True,
    limits=schema.OPTIMIZER,
    filled_in={"params": "comes from the networks"},
    must_take=frozenset({"params"}),
)
_NO_VALIDATION = "training has no validation loop; for scores write metrics.every_n_steps=<number>"
_NO_TEST = "is for Lightning's validation and tests, which train.py never runs; leave it out"
_trainer = Section(
    target=True,
    base=(f"{_LIGHTNING}.Trainer", f"{_LIGHTNING}.trainer.trainer.Trainer"),
    limits=schema.TRAINER,
    own=frozenset({"threads"}),
    kept=frozenset({"accelerator", "devices", "max_epochs", "max_steps", "max_time", "threads"}),
    filled_in={
        **dict.fromkeys(
            ("gradient_clip_val", "gradient_clip_algorithm"),
            "the Trainer cannot clip two networks; write model.gradient_clip.generator=<norm> or"
            " model.gradient_clip.discriminator=<norm>",
        ),
        "accumulate_grad_batches": "the Trainer cannot accumulate for two networks; write"
        " model.accumulate.generator=<batches> or model.accumulate.discriminator=<batches>",
        "logger": "choose loggers with logger=wandb, logger=tensorboard or logger=mlflow",
        "callbacks": "add a callback with '+callbacks.<name>={_target_: ...}'",
        "default_root_dir": "is the run folder; set paths.log_dir or name",
        "enable_progress_bar": "write callbacks.progress=null for no bar",
        "enable_checkpointing": "write callbacks.checkpoint=null for no checkpoints",
        "enable_model_summary": "dry_run=true describes both networks",
        **dict.fromkeys(("limit_val_batches", "num_sanity_val_steps"), _NO_VALIDATION),
        **dict.fromkeys(("val_check_interval", "check_val_every_n_epoch"), _NO_VALIDATION),
        **dict.fromkeys(("limit_test_batches", "limit_predict_batches"), _NO_TEST),
        "inference_mode": _NO_TEST,
        "enable_autolog_hparams": "the run's config is always logged; leave it out",
        "model_registry": "is for Lightning's own platform; leave it out",
        "barebones": "would take metrics and checkpoints away; leave it out",
        "fast_dev_run": "would leave no metrics and no checkpoint; write debug=smoke",
    },
)
_in_callbacks = Section(
    base=(
        "lightning.Callback",
        f"{_LIGHTNING}.Callback",
        f"{_LIGHTNING}.callbacks.Callback",
        f"{_LIGHTNING}.callbacks.callback.Callback",
        f"{_LIGHTNING}.callbacks.Checkpoint",
        f"{_LIGHTNING}.callbacks.ProgressBar",
    )
)
_in_logger = Section(
    base=(f"{_LIGHTNING}.loggers.Logger", f"{_LIGHTNING}.loggers.logger.Logger"),
    filled_in={
        "save_dir": "is the run folder; set paths.log_dir or name",
        "resume_at": "comes from the run that goes on; write resume=<run folder>",
    },
    must_take=frozenset({"save_dir"}),
)


def _scores(settings: Types, optional: bool) -> dict[str, Section]:
    return {
        "metrics": Section(
            schema=settings,
            optional=optional,
            free=True,
            used_with={
                "min_accuracy": "metrics/features=classifier",
                "inception_weights": "metrics/features=inception",
            },
        ),
        "metrics.features": Section(
            target=True, base=("forger.metrics.extractor.FeatureExtractor",)
        ),
    }


_TRAIN = {
    "": Section(schema=schema.TRAIN),
    "model": Section(schema=schema.MODEL, free=True),
    "model.generator": _network,
    "model.discriminator": _network,
    "model.accumulate": Section(schema=schema.ACCUMULATE),
    "model.gradient_clip": Section(schema=schema.GRADIENT_CLIP),
    "loss": Section(
        target=True,
        base=("forger.losses.AdversarialLoss",),
        neutral={
            **{"n_critic": 1, "weight_clip": None, "penalty_interval": 1},
            **{"r1_gamma": 0.0, "r2_gamma": 0.0},
        },
    ),
    "data": Section(
        target=True,
        base=(
            "lightning.LightningDataModule",
            f"{_LIGHTNING}.LightningDataModule",
            f"{_LIGHTNING}.core.datamodule.LightningDataModule",
            "forger.data.ImageDataModule",
            "forger.data.module.ImageDataModule",
        ),
        filled_in={"seed": "comes from the run's seed; write seed=<number>"},
    ),
    "optimizer": Section(schema=schema.PER_NETWORK, limits=schema.OPTIMIZER, free=True),
    "optimizer.generator": _optimizer,
    "optimizer.discriminator": _optimizer,
    "schedule": Section(schema=schema.PER_NETWORK, free=True),
    "schedule.generator": Section(target=True),
    "schedule.discriminator": Section(target=True),
    "trainer": _trainer,
    **_scores(schema.TRAINING_SCORES, optional=True),
    "callbacks": Section(objects=True),
    "logger": Section(objects=True, free=True),
    "paths": Section(schema=schema.PATHS, free=True),
    "sweep": Section(schema=schema.SWEEP),
}

# What only train.py knows: its settings, and groups that are no setting.
RECIPES = ("experiment", "hparams_search", "debug", "local")
_TRAIN_ONLY = {*schema.TRAIN, *RECIPES}


@dataclass(frozen=True)
class Script:
    """What one script's config holds.

    Args:
        sections: the parts of the config.
        rules: each yields what is wrong with a config as a whole.
        groups: groups that files can be chosen of; `None`: all that there are.
        once: where there can be no sweep and no run folder, what to do instead of a sweep.
        refused: choices that make no sense here, with the reason.
        decided: top-level settings that another one, once given, decides.
        needs: top-level settings that do nothing unless another one is given.
    """

    sections: Mapping[str, Section]
    rules: tuple[Callable[[CheckedValues], Findings], ...]
    groups: frozenset[str] | None = None
    once: str | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
    decided: Mapping[str, frozenset[str]] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)

    def has_group(self, group: str) -> bool:
        """Tells whether files of a group can be chosen here."""
        return self.groups is None or group in self.groups

    @property
    def settings(self) -> Mapping[str, Any]:
        """The top-level settings with their types."""
        return self.sections[""].schema

    def section(self, key: str) -> Section:
        """Returns what is known about the part of the config at `key`."""
        members = {"logger": _in_logger, "callbacks": _in_callbacks}
        return self.sections.get(key) or members.get(key.rpartition(".")[0], Section())

    def refusal_of(self, override: str, overrides: Iterable[str]) -> str | None:
        """Returns what is wrong with an override that has no business in this command.

        Args:
            override: as typed.
            overrides: all that were typed.
        """
        pairs = [one.lstrip("+~").partition("=") for one in overrides]
        given = {_top(key) for key, _, value in pairs if value != "null"}
        key = override.lstrip("+~").partition("=")[0]
        top, names_file = _top(key), key.replace("/", ".") in GROUPS and "={" not in override
        if self.groups is not None and (
            top in _TRAIN_ONLY - self.settings.keys()
            or (names_file and not self.has_group(key.replace(".", "/")))
        ):
            return "is for train.py; the run has its own on record"
        for deciding, decided in self.decided.items():
            if top in decided and deciding in given:
                return f"is decided by {deciding}; leave one of them out"
        if top in self.needs and self.needs[top].partition("=")[0] not in given:
            return f"does nothing without {self.needs[top]}"
        return self.refused.get(override)


def _top(key: str) -> str:
    return re.split(r"[./@]", key)[0]


SCRIPTS: dict[str, Script] = {
    "train": Script(_TRAIN, (train_rules, score_rules)),
    "evaluate": Script(
        {
            "": Section(schema=schema.EVALUATE),
            **_scores(schema.FINAL_SCORES, optional=False),
            "data": Section(schema=schema.EVALUATE_DATA),
            "paths": Section(schema=schema.EVALUATE_PATHS),
        },
        (evaluate_rules,),
        groups=frozenset({"metrics", "metrics/features"}),
        once="runs once; write run=[<run>,<run>] to compare runs",
        refused={"metrics=none": "there would be nothing to do; write metrics=full, for example"},
        decided={"protocol": frozenset({"checkpoint", "metrics", "device", "threads"})},
    ),
    "generate": Script(
        {"": Section(schema=schema.GENERATE)},
        (generate_rules,),
        groups=frozenset(),
        once="runs once; call it again for another run",
        needs={"frames": "walk=true"},
    ),
}
