"""What is known about the parts of each script's config beyond the signatures of their targets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field, fields
from typing import Any

from forger.app.config import schema
from forger.app.config.rules import evaluate_rules, train_rules
from forger.app.config.rules_of_runs import (
    explore_rules,
    export_rules,
    generate_rules,
    report_rules,
)
from forger.app.config.schema import Types
from forger.app.config.values import CheckedValues, Findings
from forger.regularizers import Regularizers


@dataclass(frozen=True)
class Section:
    """One part of a config."""

    # settings of a part that has no `_target_`, and narrower ranges of a target's
    schema: Types = field(default_factory=dict)
    limits: Types = field(default_factory=dict)
    # class that the target must derive from, "" for any; a part with one must name a `_target_`
    base: str | None = None
    optional: bool = False  # it may be empty
    partial: bool = False  # it must say `_partial_: true`
    # settings that only another one uses, with a choice that does
    used_with: Mapping[str, str] = field(default_factory=dict)
    # arguments that the builder gives, with what a user should do instead
    filled_in: Mapping[str, str] = field(default_factory=dict)
    must_take: Set[str] = frozenset()  # those of `filled_in` that every target here must take
    # settings of train.yaml, with the values at which they do nothing: a function of the user's
    # that does not take them is built without
    neutral: Mapping[str, Any] = field(default_factory=dict)
    kept: Set[str] = frozenset()  # settings that the builder reads, and that may not be removed
    objects: bool = False  # members with a `_target_`, of any name, are built
    # a part that others read by interpolation: what must be chosen for that
    read_with: str = ""
    free: bool = False  # settings of any name may stand here that other settings refer to


# Parts that an override chooses a file for.
GROUPS = frozenset(
    {
        *("task", "model", "loss", "condition", "text", "augment", "data", "optimizer"),
        *("schedule", "trainer", "metrics", "metrics.features", "callbacks", "logger"),
    }
)

# Choices that turn a group off, so that nothing is left to set in it, and what falls with one.
OFF = {
    **dict.fromkeys(("metrics", "augment", "condition"), "none"),
    **{"schedule": "constant", "logger": "csv"},
}
OFF_WITH = {"augment": ("schedule.augment",)}
_SHAPES = ("image_shape", "source_shape")

_network = Section(
    base="torch.nn.Module",
    filled_in={
        **dict.fromkeys(_SHAPES, "comes from the data; set data.image_size"),
        "gradient_penalty": "comes from the loss; choose loss=wgan_gp, for example",
        "num_classes": "comes from the data; choose condition=label",
        "text_dim": "comes from the texts' encoder; write text.dim=<size>",
        "head": "comes from the condition; write condition.discriminator=<choice>",
    },
    must_take={"image_shape"},
)
_text = Section(
    base="forger.text.TextEncoder",
    filled_in={"vocabulary": "comes from the captions"},
    read_with="condition=text",
)
_optimizer = Section(
    base="torch.optim.Optimizer",
    partial=True,
    limits=schema.OPTIMIZER,
    filled_in={"params": "comes from the networks"},
    must_take={"params"},
)
_schedule = Section(base="")
_trainer = Section(
    base="lightning.Trainer",
    limits=schema.TRAINER,
    kept={"accelerator", "devices", "max_epochs", "max_steps", "max_time", "threads"},
    filled_in={
        **dict.fromkeys(
            ("gradient_clip_val", "gradient_clip_algorithm"),
            "is for one network; write model.gradient_clip.generator=<norm>",
        ),
        "accumulate_grad_batches": "is for one network; write model.accumulate.generator=<batches>",
        "logger": "write logger=<choice>",
        "callbacks": "write '+callbacks.<name>={_target_: ...}'",
        "default_root_dir": "is the run folder; set paths.log_dir or name",
        "enable_progress_bar": "write callbacks.progress=null for no bar",
        "enable_checkpointing": "write callbacks.checkpoint=null for no checkpoints",
        "fast_dev_run": "would leave no metrics and no checkpoint; write debug=smoke",
        **dict.fromkeys(
            (
                *("limit_val_batches", "num_sanity_val_steps", "val_check_interval"),
                *("check_val_every_n_epoch", "limit_test_batches", "limit_predict_batches"),
                *("inference_mode", "enable_model_summary", "enable_autolog_hparams"),
                *("model_registry", "barebones"),
            ),
            "is for what train.py never does; leave it out",
        ),
    },
)
_MEMBERS = {  # of sections whose members have names of the user's own
    "callbacks": Section(base="lightning.Callback"),
    "logger": Section(
        base="lightning.pytorch.loggers.Logger",
        filled_in={
            "save_dir": "is the run folder; set paths.log_dir or name",
            "resume_at": "comes from the run that goes on; write resume=<run folder>",
        },
        must_take={"save_dir"},
    ),
    "schedule": _schedule,
}


def _scores(settings: Types) -> dict[str, Section]:
    used_with = {
        "min_accuracy": "metrics/features=classifier",
        "inception_weights": "metrics/features=inception",
    }
    return {
        "metrics": Section(schema=settings, optional=True, free=True, used_with=used_with),
        "metrics.features": Section(base="forger.metrics.extractor.FeatureExtractor"),
    }


_TRAIN = {
    "": Section(schema=schema.TRAIN),
    "model": Section(schema=schema.MODEL, free=True),
    "model.generator": _network,
    "model.discriminator": _network,
    "model.accumulate": Section(schema=schema.ACCUMULATE),
    "model.gradient_clip": Section(schema=schema.GRADIENT_CLIP),
    "loss": Section(
        base="forger.losses.AdversarialLoss",
        neutral={
            **{"n_critic": 1, "weight_clip": None},
            **{one.name: one.default for one in fields(Regularizers)},
        },
    ),
    "task": Section(
        base="forger.tasks.Task",
        filled_in={
            **dict.fromkeys(("generator", "discriminator"), "comes from model; choose model=dcgan"),
            **dict.fromkeys(
                ("generator_back", "discriminator_source"),
                "is built as those of model; leave it out",
            ),
            **dict.fromkeys(_SHAPES, "comes from the data; set data.image_size"),
            "loss": "write loss=<choice>",
            "condition": "write condition=<choice>",
            "augment": "write augment=<choice>",
            "prior": "write model.prior=<choice>",
        },
        must_take={"generator", "discriminator"},
    ),
    "condition": Section(
        base="forger.conditions.Condition",
        filled_in=dict.fromkeys(("classes", "prompts"), "comes from the data"),
    ),
    "condition.encoder": _text,
    "text": _text,
    "augment": Section(base="forger.augment.Augment"),
    "data": Section(
        base="lightning.LightningDataModule",
        filled_in={"seed": "comes from the run's seed; write seed=<number>"},
    ),
    "optimizer": Section(schema=schema.PER_NETWORK, limits=schema.OPTIMIZER, free=True),
    "optimizer.generator": _optimizer,
    "optimizer.discriminator": _optimizer,
    "schedule": Section(schema=schema.SCHEDULE, objects=True, free=True),
    "schedule.generator": _schedule,
    "schedule.discriminator": _schedule,
    **dict.fromkeys(
        (f"schedule.{name}" for name in schema.SCHEDULED), Section(base="", optional=True)
    ),
    "trainer": _trainer,
    **_scores(schema.TRAINING_SCORES),
    "callbacks": Section(objects=True),
    "logger": Section(objects=True, free=True),
    "paths": Section(schema=schema.PATHS, free=True),
    "sweep": Section(schema=schema.SWEEP),
}

# What a run of a version without these parts and settings is.
EARLIER: dict[str, dict[str, Any]] = {
    "model": {"ema_half_life": None},
    "schedule": dict.fromkeys(schema.SCHEDULED),
    "task": {"_target_": "forger.tasks.FromNoise"},
    "condition": {"_target_": "forger.conditions.Condition"},
    "text": {"_target_": "forger.text.Learned"},
    "augment": {"_target_": "forger.augment.Augment"},
}


def with_earlier(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a run's config with what its version of forger did not know."""
    filled = {**EARLIER, **config}
    for part, settings in EARLIER.items():
        if "_target_" not in settings and isinstance(filled[part], dict):
            filled[part] = settings | filled[part]
    return filled


# What only train.py knows: its settings, and groups that are no setting.
RECIPES = ("experiment", "hparams_search", "debug", "local")


@dataclass(frozen=True)
class Script:
    """What one script's config holds."""

    sections: Mapping[str, Section]
    rules: Callable[[CheckedValues], Findings]  # what is wrong with a config as a whole
    groups: Set[str] | None = None  # that files can be chosen of; `None`: all that there are
    # where there can be no sweep and no run folder: what to do instead of a sweep
    once: str | None = None
    refused: Mapping[str, str] = field(default_factory=dict)  # choices that make no sense here
    # top-level settings that another one, once given, decides, and that do nothing without one
    decided: Mapping[str, Set[str]] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)
    # groups of settings that `<group>=true` switches on, with the setting that this means
    switches: Mapping[str, str] = field(default_factory=dict)

    def has_group(self, group: str) -> bool:
        """Tells whether files of a group can be chosen here."""
        return self.groups is None or group in self.groups

    @property
    def settings(self) -> Mapping[str, Any]:
        """The top-level settings with their types."""
        return self.sections[""].schema

    def section(self, key: str) -> Section:
        """Returns what is known about the part of the config at `key`."""
        return self.sections.get(key) or _MEMBERS.get(key.rpartition(".")[0], Section())

    def refusal_of(self, override: str, overrides: Iterable[str]) -> str | None:
        """Returns what is wrong with an override that has no business in this command."""
        pairs = [one.lstrip("+~").partition("=") for one in overrides]
        given = {_top(key) for key, _, value in pairs if value != "null"}
        key = override.lstrip("+~").partition("=")[0]
        top, names_file = _top(key), key.replace("/", ".") in GROUPS and "={" not in override
        foreign = top not in self.settings and top in {*schema.TRAIN, *RECIPES}
        is_value = self.settings.get(top, schema.Section) is not schema.Section
        unchosen = names_file and not is_value and not self.has_group(key.replace(".", "/"))
        if self.groups is not None and (foreign or unchosen):
            return "is for train.py; the run has its own on record"
        for deciding, decided in self.decided.items():
            if top in decided and deciding in given:
                return f"is decided by {deciding}; leave one of them out"
        if top in self.needs and self.needs[top].partition("=")[0] not in given:
            return f"does nothing without {self.needs[top]}"
        return self.refused.get(override)


def _top(key: str) -> str:
    return re.split(r"[./@]", key)[0]


_TEXTS = ("text", "text_file")
_REPEATED = (  # what a protocol of scores decides
    *("checkpoint", "direction", "classification_accuracy", "metrics", "device", "threads"),
)
SCRIPTS: dict[str, Script] = {
    "train": Script(_TRAIN, train_rules),
    "evaluate": Script(
        {
            "": Section(schema=schema.EVALUATE),
            **_scores(schema.FINAL_SCORES),
            "data": Section(schema=schema.EVALUATE_DATA),
            "paths": Section(schema=schema.EVALUATE_PATHS),
        },
        evaluate_rules,
        groups={"metrics", "metrics/features"},
        once="runs once; write run=[<run>,<run>] to compare runs",
        refused={"metrics=none": "there would be nothing to do; write metrics=full, for example"},
        decided={"protocol": {*_REPEATED}},
    ),
    "generate": Script(
        {"": Section(schema=schema.GENERATE), "walk": Section(schema=schema.WALK)},
        generate_rules,
        groups=set(),
        once="runs once; call it again for another run",
        needs={"frames": "walk=true", "film": "walk=true", "reach": "directions=<number>"},
        decided={
            "input": {"label", *_TEXTS, "truncation", "walk", "npz", "project", "directions"},
            "project": {
                *("n", "direction", "dropout", "truncation", "walk", "npz", "directions"),
                *_TEXTS,
            },
            "directions": {"truncation"},
        },
        switches={"walk": "walk.noise"},
    ),
    "report": Script(
        {"": Section(schema=schema.REPORT)},
        report_rules,
        groups=set(),
        once="runs once; write run=[<run>,<run>] for runs side by side",
    ),
    "export": Script(
        {"": Section(schema=schema.EXPORT), "paths": Section(schema=schema.EXPORT_PATHS)},
        export_rules,
        groups=set(),
        once="runs once; call it again for another format",
    ),
    "explore": Script(
        {
            "": Section(schema=schema.EXPLORE),
            "data": Section(schema=schema.EXPLORE_DATA),
            "paths": Section(schema=schema.EVALUATE_PATHS),
        },
        explore_rules,
        groups=set(),
        once="runs once; call it again, on another port, for another run",
    ),
}
