"""The check of a composed config, before torch is imported.

Every key is held against the signature that it will reach, wherever the key came from: a file, the
command line, an experiment. Owns the walk through the config; `signatures` and `kinds` know what is
allowed, `mains` which parts there are, `rules` and `scoring_rules` what contradicts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from forger.errors import ConfigError
from forger.runs.checking.accepted import Select
from forger.runs.checking.collector import collector_paused
from forger.runs.checking.kinds import UNKNOWN, correction, refusal
from forger.runs.checking.mains import MAINS, Main
from forger.runs.checking.messages import choice, given, listed, nearest
from forger.runs.checking.places import GROUPS, Place
from forger.runs.checking.signatures import Parameter, read
from forger.runs.checking.targets import derives, lacks, signature_of
from forger.runs.checking.values import Values, read_values

_HYDRA_KEYS = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}
_MISSING = "???"


@dataclass(frozen=True)
class Problem:
    """What is wrong with the setting at `key`, in one line; `unknown`: there is no such setting."""

    key: str
    text: str
    unknown: bool = False


def check(cfg: DictConfig, main: str = "train") -> None:
    """Checks a composed config.

    Args:
        cfg: the config.
        main: name of the main config that it was composed from.

    Raises:
        ConfigError: something is wrong; the message lists every problem, one a line.
    """
    problems = find_problems(cfg, main)
    if problems:
        raise ConfigError(listed([problem.text for problem in problems]))


def find_problems(cfg: DictConfig, main: str = "train") -> list[Problem]:
    """Returns all that is wrong with a config composed from the main config of that name."""
    with collector_paused():
        return _Check(read_values(cfg), MAINS[main]).run()


def is_overruled(name: str, node: dict[str, Any]) -> bool:
    """Tells whether every member that is built has a value of its own for a shared word."""
    built = [member for member in node.values() if _has_target(member)]
    return bool(built) and all(name in member for member in built)


class _Check:
    """One walk through one config."""

    def __init__(self, values: Values, main: Main) -> None:
        self.values, self.main = values, main
        self.problems: dict[str, str] = {}
        self.unknown: set[str] = set()

    def run(self) -> list[Problem]:
        for key, reason in self.values.broken.items():
            self.problems[key] = f"{key}={reason}"
        self.section("", self.values.plain)
        found = [
            Problem(key, text, key in self.unknown)
            for key, text in self.problems.items()
            if (origin := self.values.origin(key)) == key or origin not in self.problems
        ]
        for key, reason in self.main.contradictions(Select(self.values, self.problems)):
            value = self.values.select(key)
            found.append(Problem(key, f"{key if value is None else given(key, value)}: {reason}"))
        return found

    def refuse(self, key: str, value: Any, reason: str) -> None:
        self.problems.setdefault(key, f"{given(key, value)}: {reason}")

    def section(self, key: str, node: Any) -> None:
        """Checks a part of the config that is in `Main.places` or was found in one."""
        place = self.main.place_of(key)
        if node is UNKNOWN or (place.optional and not node and not isinstance(node, str)):
            return
        if not isinstance(node, dict):
            if node is not None or place.target or place.schema:
                self.refuse(key, node, _not_settings(key, node))
        elif "_target_" in node and not place.schema:
            self.target(key, node, place)
        elif place.target:
            group = key if key in GROUPS else key.partition(".")[0]
            self.problems[key] = f"{key}: has no _target_; choose {group}=<word>"
        else:
            self.words(key, node, place)

    def words(self, key: str, node: dict[str, Any], place: Place) -> None:
        """Checks a part without a target: its schema's settings, its members, and free words."""
        schema = read(place.schema).parameters if place.schema else {}
        limits = read(place.limits).parameters if place.limits else {}
        for name, value in node.items():
            path = f"{key}.{name}" if key else str(name)
            if name in schema and _is_section(schema[name]):
                self.section(path, value)
            elif value == _MISSING and name in place.needed:
                self.problems[path] = f"{path}: is needed; write {path}={place.needed[name]}"
            elif name in schema:
                self.value(path, value, schema[name])
                if name in place.shared and value is not None and not self.values.is_read(path):
                    self.refuse(
                        path, value, f"is used with {place.shared[name]} only; leave it out"
                    )
            elif name in place.renamed:
                self.refuse(path, value, place.renamed[name])
            elif place.holds and (value is None or value is UNKNOWN or _has_target(value)):
                if _has_target(value):
                    self.target(path, value, self.main.place_of(path))
            elif place.holds and not place.words:
                self.refuse(path, value, "must be null or name a _target_")
            elif place.words and (self.values.is_read(path) or is_overruled(name, node)):
                self.value(path, value, limits.get(name))
            else:
                read_here = {name for name in node if self.values.is_read(f"{key}.{name}")}
                self.refuse(
                    path, value, "unknown setting" + choice(name, schema.keys() | read_here)
                )
                self.unknown.add(path)
        for name in schema.keys() - node.keys():
            path = f"{key}.{name}" if key else name
            what = "<word>" if path in GROUPS else "<value>"
            self.problems[path] = f"{path}: is needed and missing; write {path}={what}"

    def target(self, key: str, node: dict[str, Any], place: Place) -> None:
        """Checks a part that is built by calling its target."""
        target = node["_target_"]
        if target is UNKNOWN:
            return
        signature = signature_of(target)
        if isinstance(signature, str):
            self.refuse(f"{key}._target_", target, signature)
            return
        if not derives(target, place.base):
            self.refuse(f"{key}._target_", target, f"must derive from {place.base[0]}")
            return
        limits = read(place.limits).parameters if place.limits else {}
        own = {name: limits[name] for name in place.own}
        known = signature.parameters | own
        for name, value in node.items():
            path = f"{key}.{name}"
            if name in _HYDRA_KEYS:
                continue
            if name in place.passed:
                self.refuse(path, value, place.passed[name])
            elif name in known:
                self.value(path, value, known[name], limits.get(name))
            elif not signature.open:
                allowed = known.keys() - place.passed.keys()
                self.refuse(
                    path, value, f"unknown setting of {target}" + choice(str(name), allowed)
                )
                self.unknown.add(path)
            self.nested(path, value)
        for path, complaint in lacks(key, node, signature, place):
            self.problems.setdefault(path, complaint)

    def nested(self, key: str, value: Any) -> None:
        """Checks targets inside an argument."""
        items = enumerate(value) if isinstance(value, list) else ()
        for name, item in value.items() if isinstance(value, dict) else items:
            if isinstance(item, dict) and "_target_" not in item:
                self.nested(f"{key}.{name}", item)
            elif isinstance(item, dict):
                self.target(f"{key}.{name}", item, Place())
        if isinstance(value, dict) and "_target_" in value:
            self.target(key, value, Place())

    def value(
        self, key: str, value: Any, parameter: Parameter | None, limit: Parameter | None = None
    ) -> None:
        """Checks one value against its annotation, or against the narrower one of our own."""
        rule = limit or parameter
        if rule is None:
            return
        if value == _MISSING:
            self.problems[key] = f"{key}: is needed; write {key}=<value>"
            return
        words = refusal(value, rule.annotation, rule.module)
        if words is not None:
            meant = correction(value, rule.annotation, rule.module)
            quoted = f"\"{key}='{meant}'\"" if isinstance(meant, str) else meant
            options = filter(None, words.partition("one of ")[2].split(", "))
            hint = nearest(str(value), options) if meant is None else f"; write {quoted}"
            self.refuse(key, value, f"must be {words}{hint}")


def _has_target(node: Any) -> bool:
    return isinstance(node, dict) and "_target_" in node


def _is_section(parameter: Parameter) -> bool:
    return getattr(parameter.annotation, "id", None) == "Section"


def _not_settings(key: str, node: Any) -> str:
    """Words the refusal of a value where settings should be, the name of a file above all."""
    if key not in GROUPS or not isinstance(node, str):
        return "must be a group of settings"
    return (
        f"names a file, and only a choice may; write {key}={node} on the command line, or "
        f"'override /{key.replace('.', '/')}: {node}' in the defaults of the file that says this"
    )
