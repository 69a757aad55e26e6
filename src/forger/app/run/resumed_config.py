"""The config of a run that goes on: its own, with the overrides of a command that may change it.

Imports neither torch nor anything that does.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from forger.app.config.check import find_problems
from forger.app.config.messages import given, type_setting
from forger.app.config.records import find_untrusted
from forger.app.config.sections import SCRIPTS, with_earlier
from forger.app.config.settings import put_settings, with_absolute_paths
from forger.app.config.trust import (
    is_in_use,
    is_named,
    links_out_of,
    move,
    named,
    not_where,
    targets_in,
)
from forger.app.config.values import is_within, value_at
from forger.app.run.folder import read_choices
from forger.errors import ConfigError

OF_THE_COMMAND = ("resume", "trust", "moved")  # settings that are not of the run
_HARDWARE = ("accelerator", "devices", "strategy", "num_nodes", "sync_batchnorm")
# Settings that change how a run is carried out, not what it computes. A name stands for all in it.
_CHANGEABLE = (
    *(f"trainer.{limit}" for limit in ("max_steps", "max_epochs", "max_time")),
    *(f"trainer.{limit}" for limit in ("min_steps", "min_epochs")),
    *(f"trainer.{how}" for how in ("log_every_n_steps", "profiler", "detect_anomaly", "benchmark")),
    *(f"trainer.{how}" for how in ("threads", "deterministic", *_HARDWARE)),
    *("callbacks", "logger", "metrics.every_n_steps", "metrics.inception_weights"),
    *("data.root", "data.download", "data.cache_dir", "data.device", "paths.cache_dir"),
    *("objective", "dry_run", "compile", "report"),
)


class ResumedConfig:
    """The config of a run that goes on: its own, changed by the overrides of a command.

    The run may be anybody's: its config is held against `trust`, which what is typed, and what the
    command's own config names, need not be.

    Args:
        folder: of the run.
        composed: the config that the command would have without `resume`, for chosen files.
    """

    def __init__(self, folder: Path, composed: DictConfig) -> None:
        self.folder, self.composed = folder, composed
        try:
            own = OmegaConf.load(folder / "config.yaml")
        except Exception as error:  # of YAML that is damaged, anything
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ConfigError(f"resume={folder}: config.yaml cannot be read: {reason}") from None
        if not isinstance(own, DictConfig) or "trainer" not in own:
            raise ConfigError(f"resume={folder}: config.yaml is not the config of a run")
        # what an earlier version did not know yet
        default = {key: composed[key] for key in ("init_from", "compile", "report", "sweep")}
        moved = move(_plain(own), composed.get("moved"))
        known = default | with_earlier(moved) | {"trust": [], "moved": None}
        self.cfg = with_absolute_paths(DictConfig(known))
        self.own = _plain(self.cfg)
        self.typed: list[str] = []  # keys whose values are the user's

    def change(self, overrides: Iterable[Override]) -> list[str]:
        """Applies overrides, those for Hydra left out; returns what is wrong, one line each."""
        settings, wrong = self.take_choices(overrides)
        before = _plain(self.cfg)
        mistakes, unlisted = put_settings(self.cfg, settings)
        for override in settings:
            self.pass_on(override)
        self.cfg = with_absolute_paths(self.cfg)
        problems = find_problems(self.without_unread())
        for override in settings:
            key, line = override.key_or_group, override.input_line
            if any(is_within(key, problem.key) for problem in problems):
                continue
            changed = value_at(before, key) != value_at(_plain(self.cfg), key)
            if changed and not any(is_within(key, one) for one in _CHANGEABLE):
                old = value_at(before, key)
                has = "lacks it" if old is None else f"has {given(key, old)}"
                wrong.append(self.refusal(override, has))
            elif override in unlisted:
                wrong.append(f"{line}: no such setting; to add it, write +{line}")
        wrong += mistakes
        untrusted = self.untrusted(imports=not (wrong or problems))
        told = {text.partition("=")[0] for text in untrusted}
        wrong += [problem.text for problem in problems if problem.key not in told]
        links = links_out_of(self.folder, self.cfg.trust)
        return wrong + untrusted + [f"resume={self.folder}: {text}" for text in links]

    def take_choices(self, overrides: Iterable[Override]) -> tuple[list[Override], list[str]]:
        """Takes other hardware and loggers; returns all settings, and what is wrong."""
        earlier = {"task": "from_noise", "condition": "none", "augment": "none"}
        choices = earlier | read_choices(self.folder)
        settings, wrong = list[Override](), list[str]()
        for override in overrides:
            key = override.key_or_group
            value = None if override.is_delete() else override.value()
            if key in OF_THE_COMMAND:
                continue
            if key not in choices or isinstance(value, dict):
                settings.append(override)
            elif key == "logger":
                self.cfg.logger = self.composed.get("logger")
                self.typed.append(key)
            elif key == "trainer":
                for name in _HARDWARE:
                    self.cfg.trainer.pop(name, None)
                    if name in self.composed.trainer:
                        self.cfg.trainer[name] = self.composed.trainer[name]
                self.typed += [f"trainer.{name}" for name in _HARDWARE]
            elif value != choices[key] and (value, choices[key]) != ("null", None):
                wrong.append(self.refusal(override, f"has {given(key, choices[key])}"))
        return settings, wrong

    def pass_on(self, override: Override) -> None:
        """Notes what was typed, and passes `logger.<name>` on to loggers: they are resolved."""
        key = override.key_or_group
        if override.is_delete() or isinstance(override.value(), dict):
            return  # a mapping is merged with the run's own: it is held against `trust` as that is
        self.typed.append(key)
        group, _, name = key.partition(".")
        for logger, node in (self.cfg.get("logger") or {}).items() if group == "logger" else ():
            if isinstance(node, DictConfig) and name in node:
                node[name] = self.cfg.logger[name]
                self.typed.append(f"logger.{logger}.{name}")

    def refusal(self, override: Override, has: str) -> str:
        """Says that the run keeps what it has."""
        return (
            f"{override.input_line}: the run resumed {has}, and keeps it; leave it out, or start a"
            f" new run from its weights: {type_setting('init_from', self.folder)}"
        )

    def without_unread(self) -> DictConfig:
        """Leaves out the run's settings that only others referred to: in its config, none do."""
        kept = self.cfg.copy()
        for key, section in SCRIPTS["train"].sections.items():
            node: Any = OmegaConf.select(kept, key) if key and section.free else None
            for name in list(node) if isinstance(node, DictConfig) else ():
                free = name not in section.schema and not isinstance(node[name], DictConfig)
                if free and name in (value_at(self.own, key) or {}):
                    del node[name]
        return kept

    def untrusted(self, imports: bool) -> list[str]:
        """Returns what the run may not bring; `trust` becomes all that the user has named."""
        composed = {key: value for key, value in _plain(self.composed).items() if key != "hydra"}
        trust = [*named(composed.get("trust"), composed.get("moved")), *targets_in(composed)]
        self.keep_in_place(trust)
        plain = _plain(self.cfg)
        found = find_untrusted(plain, trust, typed=self.typed, build=[""], imports=imports)
        key, storage = "sweep.trial.storage", OmegaConf.select(self.cfg, "sweep.trial.storage")
        beside = [f"sqlite:///{where / 'optuna.db'}" for where in (self.folder, self.folder.parent)]
        known = key in self.typed or is_named(str(storage), [*trust, *beside])
        if storage is not None and not known:
            found.append(f"{given(key, storage)}: {not_where(str(storage))}")
        targets = [str(value_at(plain, key)) for key in self.typed if key.endswith("._target_")]
        self.cfg.trust, self.cfg.resume = [*trust, *targets], str(self.folder)
        return found

    def keep_in_place(self, trust: list[str]) -> None:
        """Has nothing written where the run's config alone says so, but in caches in use."""
        cfg, paths = self.cfg, self.composed.paths
        caches = ("paths", "data", "text", "condition.encoder")
        for key in (f"{part}.cache_dir" for part in caches):
            folder = OmegaConf.select(cfg, key)
            foreign = isinstance(folder, str) and key not in self.typed
            if foreign and not (is_named(folder, trust) or is_in_use("cache_dir", folder)):
                OmegaConf.update(cfg, key, paths.cache_dir)
        root = str(OmegaConf.select(cfg, "data.root"))
        known = is_named(root, [*trust, paths.data_dir]) or is_in_use("root", root)
        if OmegaConf.select(cfg, "data.download") and not known and "data.root" not in self.typed:
            cfg.data.download = "data.download" in self.typed


def _plain(cfg: DictConfig) -> Any:
    return OmegaConf.to_container(cfg, resolve=False)
