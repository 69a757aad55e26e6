"""The main configs, each with the script that reads it, and what `check` must know of them.

Owns what makes evaluate.py and generate.py differ from train.py at the front door.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from forger.app.config.accepted import Findings, Select
from forger.app.config.places import (
    GROUPS,
    IN_CALLBACKS,
    IN_LOGGER,
    PLACES,
    SCHEMA,
    SCORING_SCHEMA,
    Place,
    scores,
)
from forger.app.config.rules import train_rules
from forger.app.config.score_rules import evaluate_rules, generate_rules, score_rules
from forger.app.config.signatures import read


@dataclass(frozen=True)
class Main:
    """One main config.

    Args:
        places: the parts of the config.
        rules: each yields what is wrong with a config as a whole.
        groups: words that choose files; `None`: all that there are.
        once: where there can be no sweep and no run folder, what to do instead of a sweep.
        refused: choices that make no sense here, with the reason.
        decided: top-level settings that another one, once given, decides.
        needs: top-level settings that do nothing unless another one is given.
    """

    places: Mapping[str, Place]
    rules: tuple[Callable[[Select], Findings], ...]
    groups: frozenset[str] | None = None
    once: str | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
    decided: Mapping[str, frozenset[str]] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)

    def has_group(self, group: str) -> bool:
        """Tells whether files of a group can be chosen here."""
        return self.groups is None or group in self.groups

    @property
    def settings(self) -> frozenset[str]:
        """Names of the top-level settings."""
        return frozenset(read(str(self.places[""].schema)).parameters)

    def refusal_of(self, word: str, key: str, typed: set[str]) -> str | None:
        """Returns what is wrong with a word that has no business in this command.

        Args:
            word: as typed.
            key: its setting or group.
            typed: top-level names of all that was typed.
        """
        top = re.split(r"[./]", key)[0]
        names_file = key in GROUPS and "={" not in word
        if self.groups is not None and (
            top in TRAIN_ONLY - self.settings
            or (names_file and not self.has_group(key.replace(".", "/")))
        ):
            return "is for train.py; the run has its own on record"
        for deciding, decided in self.decided.items():
            if top in decided and deciding in typed:
                return f"is decided by {deciding}; leave one of them out"
        if top in self.needs and self.needs[top].partition("=")[0] not in typed:
            return f"does nothing without {self.needs[top]}"
        return self.refused.get(word)

    def contradictions(self, select: Select) -> Findings:
        """Yields keys, each with what contradicts it."""
        for rule in self.rules:
            yield from rule(select)

    def place_of(self, key: str) -> Place:
        """Returns what is known about the part of the config at `key`."""
        known = self.places.get(key)
        if known is not None:
            return known
        members = {"logger": IN_LOGGER, "callbacks": IN_CALLBACKS}
        return members.get(key.rpartition(".")[0], Place())


# What only train.py knows: its settings, and groups that are no setting.
TRAIN_ONLY = read(f"{SCHEMA}.Run").parameters.keys() | {
    "experiment",
    "hparams_search",
    "debug",
    "local",
}

_NEEDED = {"run": "<run folder>"}

MAINS: dict[str, Main] = {
    "train": Main(PLACES, (train_rules, score_rules)),
    "evaluate": Main(
        {
            "": Place(schema=f"{SCORING_SCHEMA}.Evaluation", needed=_NEEDED),
            **scores("FinalScores", optional=False),
            "data": Place(schema=f"{SCORING_SCHEMA}.DataNow"),
            "paths": Place(schema=f"{SCORING_SCHEMA}.PathsNow"),
        },
        (evaluate_rules,),
        groups=frozenset({"metrics", "metrics/features"}),
        once="runs once; write run=[<run>,<run>] to compare runs",
        refused={
            "metrics=none": "there would be nothing to do; write metrics=full, for example",
        },
        decided={"protocol": frozenset({"checkpoint", "metrics", "device", "threads"})},
    ),
    "generate": Main(
        {"": Place(schema=f"{SCORING_SCHEMA}.Generation", needed=_NEEDED)},
        (generate_rules,),
        groups=frozenset(),
        once="runs once; call it again for another run",
        needs={"frames": "walk=true"},
    ),
}
