"""The check of a composed config, before torch is imported.

Every key is held against the signature that it will reach, wherever the key came from: a file, the
command line, an experiment. Owns the walk through the config; `signatures` and `kinds` know what is
allowed, `mains` which parts there are, `rules` and `scoring_rules` what contradicts.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from forger.app.config.accepted import Select
from forger.app.config.collector import collector_paused
from forger.app.config.kinds import UNKNOWN, correction, refusal
from forger.app.config.mains import MAINS
from forger.app.config.messages import choice, closest, given, listed, nearest, several
from forger.app.config.places import GROUPS, Place
from forger.app.config.signatures import Parameter, read
from forger.app.config.targets import derives, refuses_call, signature_of
from forger.app.config.values import Values, read_values
from forger.errors import ConfigError

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
        return _Check(read_values(cfg), main).run()


def is_overruled(name: str, node: dict[str, Any]) -> bool:
    """Tells whether every member that is built has a value of its own for a shared word."""
    built = [member for member in node.values() if _has_target(member)]
    return bool(built) and all(name in member for member in built)


class _Check:
    """One walk through one config."""

    def __init__(self, values: Values, name: str) -> None:
        self.values, self.name, self.main = values, name, MAINS[name]
        self.problems: dict[str, str] = {}
        self.unknown: set[str] = set()
        self.causes: dict[tuple[str, str], str] = {}

    def run(self) -> list[Problem]:
        for key, reason in self.values.broken.items():
            self.problems[key] = f"{key}={reason}"
        self.section("", self.values.plain)
        self.name_what_several_lack()
        roots = {root: self.problems[root] for root in map(self.root, list(self.problems))}
        for key, reason in self.main.contradictions(Select(self.values, self.problems)):
            value = self.values.select(key)
            text = f"{key if value is None else given(key, value)}: {reason}"
            self.problems.setdefault(key, text)  # a later rule says nothing of such a value
            roots.setdefault(key, text)
        texts = dict.fromkeys(roots.values())  # one may be of several keys
        first = [next(key for key in roots if roots[key] == text) for text in texts]
        return [Problem(key, roots[key], key in self.unknown) for key in first]

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
                words = f"{source}: is missing, and {' and '.join(keys)} refer to it"
                self.problems[source] = f"{words}; write +{source}=<value>"

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
        unknown: dict[str, Any] = {}
        sections = {name for name, parameter in schema.items() if _is_section(parameter)}
        for name, value in node.items():
            path = f"{key}.{name}" if key else str(name)
            if name in sections:
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
            elif place.holds and (not place.words or isinstance(value, dict)):
                self.refuse(path, value, "must be null or name a _target_")
            elif place.words and (self.values.is_read(path) or is_overruled(name, node)):
                self.value(path, value, limits.get(name))
            else:
                unknown[name] = value
        missing = schema.keys() - node.keys()
        whole = len(missing) > max(1, len(schema) / 2)  # a file with all of them is not there
        if whole:
            unknown = {}
        elif place.words:
            unknown = self.unread(key, node, unknown, sections)
        known = schema.keys() | {name for name in node if self.values.is_read(f"{key}.{name}")}
        self.missing(key, missing - self.refuse_unknown(key, unknown, known, missing), whole)

    def unread(
        self, key: str, node: dict[str, Any], unknown: dict[str, Any], sections: set[str]
    ) -> dict[str, Any]:
        """Returns the words that nothing reads, without those whose reader is missing or wrong."""
        parts = sections | {name for name, value in node.items() if isinstance(value, dict)}
        beside = [f"{key}.{part}" for part in parts]
        if not parts and len(unknown) > 1:
            text = f"{key}: nothing uses {several(unknown)}; choose {key}=<word>"
            self.problems |= {f"{key}.{name}": text for name in unknown}
            return {}
        if any(part in self.problems for part in beside):
            return {}
        wrong = {path.rpartition(".")[2] for path in self.problems if path.startswith(f"{key}.")}
        return {name: value for name, value in unknown.items() if name not in wrong}

    def missing(self, key: str, names: Set[str], whole: bool = False) -> None:
        """Notes settings that are needed and missing, as one problem: of the `whole` section?"""
        if not names:
            return
        paths = sorted(f"{key}.{name}" if key else name for name in names)
        words = (f"{path}={'<word>' if path in GROUPS else '<value>'}" for path in paths)
        if not key and whole:
            advice = f"begin the main config with 'defaults: [{self.name}, _self_]'"
        elif key in GROUPS and len(paths) > 1:
            advice = f"choose {key}=<word>"
        else:
            advice = f"write {' '.join(words)}"
        verb = "are" if len(paths) > 1 else "is"
        text = f"{several(paths)}: {verb} needed and missing; {advice}"
        self.problems |= dict.fromkeys([key] if key and whole else paths, text)

    def refuse_unknown(
        self, key: str, given: dict[str, Any], known: Set[str], missing: Set[str], of: str = ""
    ) -> set[str]:
        """Refuses settings that are not known; returns those of `missing` that they stand for."""
        self.unknown |= {f"{key}.{name}" if key else str(name) for name in given}
        if of and len(given) > 2:  # another target than its settings are for
            text = f"{key}: {several(given)} are unknown settings{of}{choice('', known)}"
            self.problems |= {f"{key}.{name}": text for name in given}
            return set()
        for name, value in given.items():
            path = f"{key}.{name}" if key else str(name)
            self.refuse(path, value, f"unknown setting{of}" + choice(str(name), known))
        meant = {closest(str(name), known) for name in given}
        return {name for name in missing if name in meant}

    def target(self, key: str, node: dict[str, Any], place: Place) -> None:
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
        if not derives(target, place.base):
            self.refuse(f"{key}._target_", target, f"must derive from {place.base[0]}")
            return
        limits = read(place.limits).parameters if place.limits else {}
        own = {name: limits[name] for name in place.own}
        known = signature.parameters | own
        offered = place.offered
        unknown: dict[str, Any] = {}
        for name, value in node.items():
            path = f"{key}.{name}"
            if name in _HYDRA_KEYS:
                continue
            if name in place.passed:
                self.refuse(path, value, place.passed[name])
            elif name in known:
                self.value(path, _with_objects(value), known[name], limits.get(name))
            elif not signature.open and not (name in offered and offered[name] == value):
                unknown[name] = value
            self.nested(path, value)
        refused = dict(refuses_call(key, node, signature, place))
        if refused:
            self.problems = refused | self.problems
            return
        later = "_args_" in node or (node.get("_partial_") is True and not place.partial)
        needed = set() if later else signature.needed - node.keys() - place.passed.keys()
        allowed = known.keys() - place.passed.keys()
        needed -= self.refuse_unknown(key, unknown, allowed, needed, f" of {target}")
        if needed:
            paths = sorted(f"{key}.{name}" for name in needed)
            words = " ".join(f"+{path}=<value>" for path in paths)
            them = "them" if len(paths) > 1 else "it"
            text = f"{several(paths)}: {target} needs {them}; write {words}"
            self.problems = dict.fromkeys(paths, text) | self.problems
        self.missing(key, place.kept - node.keys())

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
        if words is not None and not rule.is_default(value):
            meant = correction(value, rule.annotation, rule.module)
            quoted = f"\"{key}='{meant}'\"" if isinstance(meant, str) else meant
            options = filter(None, words.partition("one of ")[2].split(", "))
            hint = nearest(str(value), options) if meant is None else f"; write {quoted}"
            self.refuse(key, value, f"must be {words}{hint}")


def _with_objects(value: Any) -> Any:
    """Returns an argument with what Hydra will have built in place of each `_target_`: unknown."""
    if isinstance(value, dict):
        if "_target_" in value:
            return UNKNOWN
        return {name: _with_objects(item) for name, item in value.items()}
    return [_with_objects(item) for item in value] if isinstance(value, list) else value


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
