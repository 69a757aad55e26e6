"""The check of a composed config, before torch is imported.

Every key is held against the signature that it will reach, wherever the key came from: a file, the
command line, an experiment.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from forger.app.config.messages import choice, closest, given, listed, nearest, several
from forger.app.config.schema import Section as InSchema
from forger.app.config.sections import GROUPS, SCRIPTS, Section
from forger.app.config.signatures import Signature, derives, signature_of
from forger.app.config.type_checks import UNKNOWN, correction, refusal
from forger.app.config.values import CheckedValues, Values, joined, read_values
from forger.errors import ConfigError

_HYDRA_KEYS = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}
_MISSING = "???"


@dataclass(frozen=True)
class Problem:
    """What is wrong with the setting at `key`, in one line; `unknown`: there is no such setting."""

    key: str
    text: str
    unknown: bool = False


def check(cfg: DictConfig, script: str = "train") -> None:
    """Checks a composed config.

    Args:
        cfg: the config.
        script: the name of the main config that it was composed from.

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
    """One walk through one config."""

    def __init__(self, values: Values, name: str) -> None:
        self.values, self.name, self.script = values, name, SCRIPTS[name]
        self.problems: dict[str, str] = {}
        self.unknown: set[str] = set()
        self.causes: dict[tuple[str, str], str] = {}

    def run(self) -> list[Problem]:
        self.problems |= {key: f"{key}={why}" for key, why in self.values.broken.items()}
        self.section("", self.values.plain)
        self.name_what_several_lack()
        roots = {root: self.problems[root] for root in map(self.root, list(self.problems))}
        select = CheckedValues(self.values, self.problems)
        for key, reason in (found for rule in self.script.rules for found in rule(select)):
            value = self.values.select(key)
            text = f"{key if value is None else given(key, value)}: {reason}"
            self.problems.setdefault(key, text)  # a later rule says nothing of such a value
            roots.setdefault(key, text)
        first = {text: key for key, text in reversed(roots.items())}  # one may be of several keys
        return [
            Problem(key, text, key in self.unknown)
            for key, text in roots.items()
            if first[text] == key
        ]

    def root(self, key: str, seen: frozenset[str] = frozenset()) -> str:
        """Returns the setting whose problem is the cause of the one at `key`."""
        for source in self.values.reads(key):
            parts = source.split(".")
            around = [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
            cause = next((one for one in around if one in self.problems), None)
            if cause is not None and cause not in seen | {key}:
                return self.root(cause, seen | {key})
        return key

    def name_what_several_lack(self) -> None:
        """Makes one problem of a setting that is not there and that several others refer to."""
        readers: dict[str, list[str]] = {}
        for key in self.values.broken:
            for source in self.values.reads(key):
                readers.setdefault(source, []).append(key)
        for source, keys in readers.items():
            if len(keys) > 1 and not self.values.has(source) and self.root(keys[0]) == keys[0]:
                text = f"{source}: is missing, and {' and '.join(keys)} refer to it"
                self.problems[source] = f"{text}; write +{source}=<value>"

    def refuse(self, key: str, value: Any, reason: str) -> None:
        self.problems.setdefault(key, f"{given(key, value)}: {reason}")

    def refuse_all(self, keys: Iterable[str], text: str) -> None:
        """Makes one problem of several keys, in place of what was found of them before."""
        self.problems = dict.fromkeys(keys, text) | self.problems

    def section(self, key: str, node: Any) -> None:
        """Checks a part of the config."""
        section = self.script.section(key)
        if node is UNKNOWN or (section.optional and not node and not isinstance(node, str)):
            return
        if not isinstance(node, dict):
            if node is not None or section.target or section.schema:
                self.refuse(key, node, _not_settings(key, node))
        elif "_target_" in node and not section.schema:
            self.target(key, node, section)
        elif section.target:
            group = key if key in GROUPS else key.partition(".")[0]
            choose = group.replace(".", "/")
            self.problems[key] = f"{key}: has no _target_; choose {choose}=<choice>"
        else:
            self.settings(key, node, section)

    def settings(self, key: str, node: dict[str, Any], section: Section) -> None:
        """Checks a part without a target: its schema's settings, its members, and free ones."""
        types = section.schema
        limits = section.limits
        unknown: dict[str, Any] = {}
        for name, value in node.items():
            path = joined(key, name)
            if types.get(name) is InSchema:
                self.section(path, value)
            elif name in types:
                self.value(path, value, types[name])
                if name in section.used_with and value is not None and not self.is_read(path):
                    advice = f"is used with {section.used_with[name]} only; leave it out"
                    self.refuse(path, value, advice)
            elif section.objects and _has_target(value):
                self.target(path, value, self.script.section(path))
            elif section.objects and (value is None or value is UNKNOWN):
                continue
            elif section.objects and (not section.free or isinstance(value, dict)):
                self.refuse(path, value, "must be null or name a _target_")
            elif section.free and (self.is_read(path) or is_overruled(name, node)):
                self.value(path, value, limits.get(name, Any))
            else:
                unknown[name] = value
        missing = types.keys() - node.keys()
        whole = len(missing) > max(1, len(types) / 2)  # a file with all of them is not there
        parts = [name for name, value in node.items() if isinstance(value, dict)]
        if whole or (section.free and any(joined(key, part) in self.problems for part in parts)):
            unknown = {}  # what reads it is missing, or wrong
        elif section.free and not parts and len(unknown) > 1:
            text = f"{key}: nothing uses {several(unknown)}; choose {key}=<choice>"
            self.problems |= {f"{key}.{name}": text for name in unknown}
            unknown = {}
        known = types.keys() | {name for name in node if self.is_read(f"{key}.{name}")}
        self.missing(key, missing - self.refuse_unknown(key, unknown, known, missing), whole)

    def is_read(self, key: str) -> bool:
        return self.values.is_read(key)

    def missing(self, key: str, names: Set[str], whole: bool = False) -> None:
        """Notes settings that are needed and missing, as one problem: of the `whole` section?"""
        if not names:
            return
        paths = sorted(joined(key, name) for name in names)
        if not key and whole:
            advice = f"begin the main config with 'defaults: [{self.name}, _self_]'"
        elif key in GROUPS and len(paths) > 1:
            advice = f"choose {key}=<choice>"
        else:
            advice = " ".join(f"{p}={'<choice>' if p in GROUPS else '<value>'}" for p in paths)
            advice = f"write {advice}"
        verb = "are" if len(paths) > 1 else "is"
        text = f"{several(paths)}: {verb} needed and missing; {advice}"
        self.problems |= dict.fromkeys([key] if key and whole else paths, text)

    def refuse_unknown(
        self, key: str, given: dict[str, Any], known: Set[str], missing: Set[str], of: str = ""
    ) -> set[str]:
        """Refuses settings that are not known; returns those of `missing` that they stand for."""
        paths = {joined(key, name): value for name, value in given.items()}
        self.unknown |= paths.keys()
        if of and len(given) > 2:  # another target than its settings are for
            text = f"{key}: {several(given)} are unknown settings{of}{choice('', known)}"
            self.problems |= dict.fromkeys(paths, text)
            return set()
        for path, value in paths.items():
            hint = choice(path.rpartition(".")[2], known)
            self.refuse(path, value, f"unknown setting{of}{hint}")
        return {closest(str(name), known) or "" for name in given} & missing

    def target(self, key: str, node: dict[str, Any], section: Section) -> None:
        """Checks a part that is built by calling its target."""
        target = node["_target_"]
        if target is UNKNOWN:
            return
        signature = signature_of(target)
        if isinstance(signature, str):
            at, cause = f"{key}._target_", (signature, str(target).partition(".")[0])
            text = f"{given(at, target)}: {signature}"  # of one module, told once
            self.problems.setdefault(at, self.causes.setdefault(cause, text))
            return
        if not derives(target, section.base):
            self.refuse(f"{key}._target_", target, f"must derive from {section.base[0]}")
            return
        untaken = section.must_take - signature.parameters.keys()
        unknown = self.arguments(key, node, section, signature)
        if section.partial and node.get("_partial_") is not True:
            self.refuse_all([f"{key}._partial_"], f"{key}: needs '_partial_: true'")
        elif untaken and not signature.open:
            text = f"{key}: {target} takes no {min(untaken)}, which it will be given"
            self.refuse_all([key], text)
        else:
            self.missing_arguments(key, node, section, signature, unknown)

    def arguments(
        self, key: str, node: dict[str, Any], section: Section, signature: Signature
    ) -> dict[str, Any]:
        """Checks the values of a target's arguments, and returns those that it does not know."""
        limits = section.limits
        parameters = signature.parameters
        known = parameters.keys() | section.own
        unknown: dict[str, Any] = {}
        for name, value in node.items():
            path = f"{key}.{name}"
            if name in _HYDRA_KEYS:
                continue
            if name in section.filled_in:
                self.refuse(path, value, section.filled_in[name])
            elif name in limits and name in known:
                self.value(path, _with_objects(value), limits[name])
            elif name in parameters:
                if not parameters[name].is_default(value):
                    self.value(path, _with_objects(value), parameters[name].hint)
            elif not (signature.open or section.neutral.get(name, ...) == value):
                unknown[name] = value
            self.nested(path, value)
        return unknown

    def missing_arguments(
        self,
        key: str,
        node: dict[str, Any],
        section: Section,
        signature: Signature,
        unknown: dict[str, Any],
    ) -> None:
        """Refuses arguments that a target does not know, and notes those that it needs."""
        target, filled = node["_target_"], section.filled_in.keys()
        later = "_args_" in node or (node.get("_partial_") is True and not section.partial)
        needed = set() if later else signature.needed - node.keys() - filled
        known = (signature.parameters.keys() | section.own) - filled
        needed -= self.refuse_unknown(key, unknown, known, needed, f" of {target}")
        if needed:
            paths = sorted(f"{key}.{name}" for name in needed)
            advice = " ".join(f"+{path}=<value>" for path in paths)
            them = "them" if len(paths) > 1 else "it"
            self.refuse_all(paths, f"{several(paths)}: {target} needs {them}; write {advice}")
        self.missing(key, section.kept - node.keys())

    def nested(self, key: str, value: Any) -> None:
        """Checks targets inside an argument."""
        if _has_target(value):
            self.target(key, value, Section())
            return
        items = enumerate(value) if isinstance(value, list) else ()
        for name, item in value.items() if isinstance(value, dict) else items:
            self.nested(f"{key}.{name}", item)

    def value(self, key: str, value: Any, hint: Any) -> None:
        """Checks one value against its type."""
        if value == _MISSING:
            self.problems[key] = f"{key}: is needed; write {key}=<{_KIND.get(key, 'value')}>"
            return
        allowed = refusal(value, hint)
        if allowed is not None:
            meant = correction(value, hint)
            quoted = f"\"{key}='{meant}'\"" if isinstance(meant, str) else meant
            options = filter(None, allowed.partition("one of ")[2].split(", "))
            advice = nearest(str(value), options) if meant is None else f"; write {quoted}"
            self.refuse(key, value, f"must be {allowed}{advice}")


_KIND = {"run": "run folder"}


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
    """Words the refusal of a value where settings should be, the name of a file above all."""
    if key not in GROUPS or not isinstance(node, str):
        return "must be a group of settings"
    group = key.replace(".", "/")
    return (
        f"names a file, and only a choice may; write {group}={node} on the command line, or "
        f"'override /{group}: {node}' in the defaults of the file that says this"
    )
