"""The borders of the design: what may import what, without circles, and what is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "forger"
APART = ("networks", "data", "losses", "metrics")

# Within the app, each package with those that it may import.
BELOW = {
    "app.cli": {
        "app.report",
        "app.sweep",
        "app.export",
        "app.explore",
        "app.run",
        "app.distributed",
        "app.config",
    },
    "app.report": {"app.sweep", "app.run", "app.config"},
    "app.sweep": {"app.run", "app.distributed", "app.config"},
    "app.export": {"app.run", "app.config"},
    "app.explore": {"app.run", "app.config"},
    "app.run": {"app.distributed", "app.config"},
    "app.distributed": set(),
    "app.config": set(),
}


def modules_imported(path: Path) -> Iterator[str]:
    """Yields the full name of each module that a file imports, inside functions too."""
    package = ["forger", *path.relative_to(SOURCE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            names = (f"{module}.{alias.name}" for alias in node.names)
            yield from (name for name in names if is_module(name))


def is_module(name: str) -> bool:
    place = SOURCE.parent.joinpath(*name.split("."))
    return place.is_dir() or place.with_suffix(".py").is_file()


def package_of(module: str) -> str | None:
    """Returns `app.cli`, `data`, `losses` ... for a module of ours; `None` for others.

    The front doors `forger` and `forger.__main__`, which hand on to any of them, are none.
    """
    parts = module.split(".")
    if parts[0] != "forger" or len(parts) == 1 or parts[1] == "__main__":
        return None
    if parts[1] == "app":
        return ".".join(parts[1:3]) if len(parts) > 2 else None
    return parts[1]


@cache
def package_graph() -> dict[str, set[str]]:
    """Returns each package of ours with those that its files import."""
    graph: dict[str, set[str]] = {}
    for path in SOURCE.rglob("*.py"):
        own = package_of(".".join(["forger", *path.relative_to(SOURCE).with_suffix("").parts]))
        if own is None or own == "__init__":
            continue
        found = {package_of(module) for module in modules_imported(path)}
        graph.setdefault(own, set()).update(found - {own, None})
    return graph


def test_packages_import_one_another_in_no_circle() -> None:
    graph = package_graph()
    assert len(graph) > 20
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("name", BELOW)
def test_the_app_imports_downwards_alone(name: str) -> None:
    used = {package for package in package_graph()[name] if package.startswith("app.")}
    assert used <= BELOW[name]


def test_the_library_knows_neither_the_app_nor_hydra() -> None:
    files = [p for p in SOURCE.rglob("*.py") if p.relative_to(SOURCE).parts[0] != "app"]
    files.remove(SOURCE / "__init__.py")
    files.remove(SOURCE / "__main__.py")
    assert len(files) > 20
    for path in files:
        used = {".".join(module.split(".")[:2]) for module in modules_imported(path)}
        assert not used & {"hydra", "omegaconf", "hydra_plugins", "forger.app"}, path
        assert not {module.split(".")[0] for module in used} & {"hydra", "omegaconf"}, path


@pytest.mark.parametrize("name", APART)
def test_networks_data_losses_and_metrics_know_nothing_of_each_other(name: str) -> None:
    assert not package_graph()[name] & {*APART, "gan", "callbacks", "loggers"}


def test_the_gan_knows_no_architecture_and_no_data_set() -> None:
    assert not package_graph()["gan"] & {"networks", "data", "metrics", "callbacks", "loggers"}


@pytest.mark.parametrize(
    "module",
    ["forger", "forger.app.cli.main", "forger.app.config.check", "forger.app.report.write"],
)
def test_the_front_door_does_not_import_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_no_two_files_of_tests_share_a_name() -> None:
    """Pytest imports each by its bare name."""
    names = Counter(path.name for path in Path(__file__).parent.rglob("*.py"))
    assert [name for name, count in names.items() if count > 1 and name != "conftest.py"] == []
