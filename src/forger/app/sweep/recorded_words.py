"""Finds what somebody's sweep may not decide for whoever goes on with it.

Its words become commands again, so they are judged as the config of a run is; of those for Hydra,
which can start programs, only some are known to be harmless.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from forger.app.config.records import find_untrusted, is_in_use, is_named, says_where

_PARAMS = "hydra.sweeper.params."
_HARMLESS = re.compile(
    r"hydra/(sweeper|launcher)(/\w+)?"
    r"|hydra\.sweeper\.(direction|n_trials|n_jobs|study_name|(sampler|pruner)\.(?!_)\w+)"
    r"|hydra\.launcher\.(n_jobs|verbose|timeout_min|partition|account|qos|constraint|nodes|name"
    r"|tasks_per_node|gpus_per_node|cpus_per_task|mem_gb|array_parallelism)"
)
_SUBDIR = re.compile(r"(\$\{hydra\.job\.(num|id|name|override_dirname)\}|[\w=,.-])+")
_RESOLVER = re.compile(r"\$\{[^}]*:")
_DOTS = re.compile(r"(.*[\\/=])?\.\.([\\/]|$)", re.DOTALL)
_IN_ITS_PLACE = ("paths.log_dir", "paths.cache_dir", "paths.data_dir", "data.cache_dir")


def untrusted_words(words: Iterable[str], trust: Sequence[str]) -> list[str]:
    """Returns the words of a sweep that its files may not decide."""
    words = list(words)
    only_read = ("data.root",) if "data=image_folder" in words else ()
    return [
        word
        for word in words
        if not _is_harmless(word, trust) and word.partition("=")[0] not in only_read
    ]


def untrusted_files(folder: Path, trust: Sequence[str]) -> list[str]:
    """Returns the config files in a folder that a sweep names which it may not decide."""
    return [
        str(path)
        for path in sorted(folder.rglob("*.y*ml"))
        if not _is_harmless_file(path, path.relative_to(folder), trust)
    ]


def without_places(words: Iterable[str], folder: Path) -> list[str]:
    """Leaves out of a job's words where a sweep wants to write beside its own folder.

    A cache or data that are there stay; for the rest the command's own config decides.
    """
    return [word for word in words if not _is_elsewhere(word, folder)]


def _is_elsewhere(word: str, folder: Path) -> bool:
    key, _, value = word.partition("=")
    key, value = key.lstrip("+"), value.strip("'\"")
    if key not in _IN_ITS_PLACE:
        return False
    if key == "paths.log_dir":
        return Path(value).absolute() not in folder.parents
    return not is_in_use(key.rpartition(".")[2], value)


def _is_harmless(word: str, trust: Sequence[str]) -> bool:
    if "***" in word:  # a secret, which has to be written again anyway
        return True
    try:
        override = OverridesParser.create().parse_override(word)
        sweep = override.is_sweep_override()
        value = override.value()
        values = list(override.sweep_iterator()) if override.is_discrete_sweep() else [value]
    except (HydraException, ValueError):
        return False
    if sweep and not override.is_discrete_sweep():
        values = []  # an interval of numbers
    return all(_may_be(override.key_or_group, value, trust) for value in values)


def _is_harmless_file(path: Path, name: Path, trust: Sequence[str]) -> bool:
    text = path.read_text(encoding="utf-8", errors="replace")
    package = re.findall(r"@package\s+(\S+)", text)
    if name.parts[0] == "hydra" or package not in ([], ["_global_"]):
        return False
    try:
        node: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except Exception:  # whatever YAML may be damaged by
        return False
    if not isinstance(node, dict):
        return not node
    node.pop("defaults", None)
    hydras = node.pop("hydra", None)
    for part in reversed(() if package else name.parts[:-1]):
        node = {part: node}
    own = {"hydra": hydras, **node} if hydras else node
    leaves = all(_may_be(key, value, trust) for key, value in _leaves("", own))
    return leaves and not find_untrusted(_without_references(node), trust, names_only=True)


def _may_be(key: str, value: Any, trust: Sequence[str]) -> bool:
    """Tells whether a sweep may give a setting this value."""
    texts = [text for _, text in _leaves("", {"": value}) if isinstance(text, str)]
    if any("\n" in text or _DOTS.match(text) for text in texts):
        return False
    if key.startswith("hydra"):
        return _may_be_hydras(key, value, texts, trust)
    if any(_RESOLVER.search(text) for text in texts) or key.startswith("sweep.trial"):
        return False
    name = key.rpartition(".")[2]
    if key not in _IN_ITS_PLACE and says_where(name) and value is not None:
        kept = name == "root" and is_in_use(name, str(value))
        return kept or is_named(str(value), trust)
    node = value
    for part in reversed(key.split(".")):
        node = {part: node}
    return not find_untrusted(_without_references(node), trust, names_only=True)


def _may_be_hydras(key: str, value: Any, texts: list[str], trust: Sequence[str]) -> bool:
    if key in ("hydra.sweep.dir", "hydra.mode"):  # a sweep that goes on has them from its folder
        return True
    if key == "hydra.sweep.subdir":
        return isinstance(value, str) and _SUBDIR.fullmatch(value) is not None
    if key.startswith(_PARAMS):
        return _is_harmless(f"{key.removeprefix(_PARAMS)}={value}", trust)
    if key == _PARAMS[:-1] and isinstance(value, dict):
        return all(_is_harmless(f"{name}={inner}", trust) for name, inner in value.items())
    plain = all(re.fullmatch(r"[\w.,:+@%=-]*", text) for text in texts)
    return _HARMLESS.fullmatch(key) is not None and plain


def _leaves(key: str, node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node and key != _PARAMS[:-1]:
        for name, value in node.items():
            yield from _leaves(f"{key}.{name}" if key else str(name), value)
    elif isinstance(node, list):
        for value in node:
            yield from _leaves(key, value)
    else:
        yield key, node


def _without_references(node: Any) -> Any:
    """Leaves out what refers to other settings: unlike a run's config, words are not resolved."""
    if isinstance(node, dict):
        return {key: _without_references(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_without_references(value) for value in node]
    return None if isinstance(node, str) and "${" in node else node
