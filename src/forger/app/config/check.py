"""The check of a composed config, before torch is imported.

Every key is held against the signature that it will reach, wherever the key came from: a file, the
command line, an experiment.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from forger.app.config.messages import choice, closest, given, listed, nearest, several
from forger.app.config.schema import Section as InSchema
from forger.app.config.sections import GROUPS, SCRIPTS, Section
from forger.app.config.signatures import Parameter, Signature, derives, signature_of
from forger.app.config.source import locate
from forger.app.config.type_checks import UNKNOWN, correction, refusal
from forger.app.config.values import CheckedValues, Values, joined, read_values
from forger.errors import ConfigError

_HYDRA_KEYS = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}


@dataclass(frozen=True)
class Problem:
    """What is wrong with the setting at `key`, in one line; `unknown`: there is no such setting."""

    key: str
    text: str
    unknown: bool = False


def check(cfg: DictConfig, script: str = "train") -> None:
    """Checks a config composed from the main config of a script.

    Raises:
        ConfigError: something is wrong; the message lists every problem, one a line.
    """
    problems = find_problems(cfg, script)
    if problems:
        raise ConfigError(listed([problem.text for problem in problems]))


def find_problems(cfg: DictConfig, script: str = "train") -> list[Problem]:
    """Returns all that is wrong with a config composed from the main config of that name."""
    return _Check(read_values(cfg), script).run()


def is_overruled(name: str, node: dict[str, Any]) -> bool:
    """Tells whether every member that is built has a value of its own for a shared setting."""
    built = [member for member in node.values() if _has_target(member)]
    return bool(built) and all(name in member for member in built)


class _Check:
    """One walk through one config; `problems` holds the first one of each key."""

    def __init__(self, values: Values, name: str) -> None:
        self.values, self.name, self.script = values, name, SCRIPTS[name]
        self.problems: dict[str, str] = {}
        self.unknown: set[str] = set()
        self.told: dict[Any, str] = {}  # what several keys have in common, told of the first

    def run(self) -> list[Problem]:
        for key, why in self.values.broken.items():
            lacking = [source for source in self.values.reads(key) if not self.values.has(source)]
            self.problems[key] = self.told.setdefault((lacking or [key])[0], f"{key}={why}")
        self.section("", self.values.plain)
        for key, reason in self.script.rules(CheckedValues(self.values, self.problems)):
            value = self.values.select(key)
            text = f"{key if value is None else given(key, value)}: {reason}"
            self.problems.setdefault(key, text)  # a later rule says nothing of such a value
        found: dict[str, str] = {}
        for root in map(self.root, self.problems):
            found.setdefault(self.problems[root], root)
        return [Problem(key, text, key in self.unknown) for text, key in found.items()]

    def root(self, key: str, seen: frozenset[str] = frozenset()) -> str:
        """Returns the setting whose problem is the cause of the one at `key`."""
        for source in self.values.reads(key):
            parts = source.split(".")
            around = [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
            cause = next((one for one in around if one in self.problems), None)
            if cause is not None and cause not in seen | {key}:
                return self.root(cause, seen | {key})
        return key

    def refuse(self, key: str, value: Any, reason: str) -> None:
        self.problems.setdefault(key, f"{given(key, value)}: {reason}")

    def section(self, key: str, node: Any) -> None:
        """Checks a part of the config."""
        section = self.script.section(key)
        if node is UNKNOWN or (section.optional and not node and not isinstance(node, str)):
            return
        if not isinstance(node, dict):
            if key in self.script.switches:
                own = " or ".join(f"{key}.{name}=<value>" for name in section.schema)
                self.refuse(key, node, f"is a group of settings; write {key}=true, {own}")
            elif node is not None or section.base is not None or section.schema:
                self.refuse(key, node, _not_settings(key, node))
        elif "_target_" in node and not section.schema:
            self.target(key, node, section)
        elif section.base is not None:
            group = key if key in GROUPS else key.partition(".")[0]
            choose = group.replace(".", "/")
            self.problems[key] = f"{key}: has no _target_; choose {choose}=<choice>"
        elif section.optional and "features" not in node:
            for name, value in node.items():
                reason = f"does nothing without {key}.features, as with {key}=none; leave it out"
                self.refuse(joined(key, name), value, reason)
        else:
            unknown = self.settings(key, node, section, section.schema)
            missing = section.schema.keys() - node.keys()
            members = {joined(key, name) for name in node if isinstance(node[name], dict)}
            if len(missing) > 1 or (section.free and self.problems.keys() & members):
                unknown = {}  # what reads it is missing, or wrong
            read = {name for name in node if self.values.is_read(joined(key, name))}
            missing -= self.refuse_unknown(key, unknown, section.schema.keys() | read)
            self.missing(key, missing)

    def target(self, key: str, node: dict[str, Any], section: Section) -> None:
        """Checks a part that is built by calling its target."""
        target, at = node["_target_"], f"{key}._target_"
        if target is UNKNOWN:
            return
        signature = signature_of(target)
        if isinstance(signature, str):
            cause = (signature, str(target).partition(".")[0])
            self.problems[at] = self.told.setdefault(cause, f"{given(at, target)}: {signature}")
            return
        untaken = section.must_take - signature.parameters.keys()
        if untaken and not signature.open:
            self.problems[key] = f"{key}: {target} takes no {min(untaken)}, which it will be given"
        elif section.base and not derives(locate(target), section.base):
            self.refuse(at, target, f"must derive from {section.base}")
        elif section.partial and node.get("_partial_") is not True:
            self.problems[key] = f"{key}: needs '_partial_: true'"
        else:
            self.arguments(key, node, section, signature)

    def arguments(
        self, key: str, node: dict[str, Any], section: Section, signature: Signature
    ) -> None:
        """Checks the arguments of a target: their names, their values, and that none is missing."""
        names = signature.parameters.keys() | section.kept
        own = {name: limit for name, limit in section.limits.items() if name in names}
        unknown = self.settings(key, node, section, {**signature.parameters, **own})
        if signature.open:
            unknown = {}
        known = names - section.filled_in.keys()
        later = "_args_" in node or (node.get("_partial_") is True and not section.partial)
        needed = signature.needed & known - node.keys() if not later else set()
        needed -= self.refuse_unknown(key, unknown, known, f" of {node['_target_']}")
        self.missing(key, needed, "+")
        self.missing(key, section.kept - node.keys())

    def settings(
        self, key: str, node: dict[str, Any], section: Section, types: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Checks the settings in a part, and returns those that are not known."""
        unknown: dict[str, Any] = {}
        built = "_target_" in node and not section.schema
        for name, value in node.items():
            path, hint = joined(key, name), types.get(name)
            read = self.values.is_read(path)
            if built and name in _HYDRA_KEYS:
                continue
            if name in section.filled_in:
                self.refuse(path, value, section.filled_in[name])
            elif hint is InSchema:
                self.section(path, value)
            elif name in types:
                hint = hint.hint if isinstance(hint, Parameter) else hint
                self.value(path, _with_objects(value), hint)
                if name in section.used_with and value is not None and not read:
                    advice = f"is used with {section.used_with[name]} only; leave it out"
                    self.refuse(path, value, advice)
            elif section.objects and (not section.free or isinstance(value, dict)):
                if _has_target(value):
                    self.target(path, value, self.script.section(path))
                elif value is not None and value is not UNKNOWN:
                    self.refuse(path, value, "must be null or name a _target_")
            elif section.free and (read or is_overruled(name, node)):
                self.value(path, value, section.limits.get(name, Any))
            elif section.neutral.get(name, ...) != value:
                unknown[name] = value
            if built:
                self.nested(path, value)
        return unknown

    def missing(self, key: str, names: Set[str], sign: str = "") -> None:
        """Notes settings that are needed and missing, as one problem."""
        paths = sorted(joined(key, name) for name in names)
        if not paths:
            return
        pairs = [f"{sign}{path}={'<choice>' if path in GROUPS else '<value>'}" for path in paths]
        advice = f"write {' '.join(pairs)}"
        if not key and len(paths) > 2:
            advice = f"begin the main config with 'defaults: [{self.name}, _self_]'"
        elif key in GROUPS and len(paths) > 1 and not sign:
            advice = f"choose {key}=<choice>"
        verb = "are" if len(paths) > 1 else "is"
        text = f"{several(paths)}: {verb} needed and missing; {advice}"
        self.problems |= dict.fromkeys(paths, text)

    def refuse_unknown(
        self, key: str, unknown: dict[str, Any], known: Set[str], of: str = ""
    ) -> set[str]:
        """Refuses settings that are not known; returns the known ones that they may stand for."""
        paths = {joined(key, name): value for name, value in unknown.items()}
        self.unknown |= paths.keys()
        for path, value in paths.items():
            hint = choice(path.rpartition(".")[2], known)
            self.refuse(path, value, f"unknown setting{of}{hint}")
        return {closest(str(name), known) or "" for name in unknown}

    def nested(self, key: str, value: Any) -> None:
        """Checks targets inside an argument."""
        if _has_target(value):
            self.target(key, value, self.script.section(key))
            return
        items = enumerate(value) if isinstance(value, list) else ()
        for name, item in value.items() if isinstance(value, dict) else items:
            self.nested(f"{key}.{name}", item)

    def value(self, key: str, value: Any, hint: Any) -> None:
        """Checks one value against its type."""
        if value == "???":
            self.problems[key] = f"{key}: is needed; write {key}=<{key}>"
            return
        allowed = refusal(value, hint)
        if allowed is not None:
            meant = correction(value, hint)
            quoted = f"\"{key}='{meant}'\"" if isinstance(meant, str) else meant
            options = filter(None, allowed.partition("one of ")[2].split(", "))
            advice = nearest(str(value), options) if meant is None else f"; write {quoted}"
            self.refuse(key, value, f"must be {allowed}{advice}")


def _with_objects(value: Any) -> Any:
    """Returns an argument with what Hydra will have built in place of each `_target_`: unknown."""
    if isinstance(value, dict):
        if "_target_" in value:
            return UNKNOWN
        return {name: _with_objects(item) for name, item in value.items()}
    return [_with_objects(item) for item in value] if isinstance(value, list) else value


def _has_target(node: Any) -> bool:
    return isinstance(node, dict) and "_target_" in node


def _not_settings(key: str, node: Any) -> str:
    if key not in GROUPS or not isinstance(node, str):
        return "must be a group of settings"
    group = key.replace(".", "/")
    return (
        f"names a file; write {group}={node}, or 'override /{group}: {node}' in a file's defaults"
    )
