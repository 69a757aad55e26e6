"""The borders of the design: what may import what, and what is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "forger"
APART = ("networks", "data", "losses", "metrics")


def imports(path: Path) -> set[str]:
    """Names of all modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_hydra_stops_at_the_door() -> None:
    below = [path for path in SOURCE.rglob("*.py") if "app" not in path.relative_to(SOURCE).parts]
    assert len(below) > 20
    for path in below:
        assert "hydra" not in path.read_text().lower(), path
        assert "omegaconf" not in path.read_text().lower(), path


@pytest.mark.parametrize("name", APART)
def test_networks_data_losses_and_metrics_know_nothing_of_each_other(name: str) -> None:
    home = SOURCE / name
    files = home.rglob("*.py") if home.is_dir() else [home.with_suffix(".py")]
    forbidden = {*APART, "gan", "app", "callbacks", "loggers"} - {name}
    for path in files:
        used = {m.split(".")[1] for m in imports(path) if m.startswith("forger.")}
        assert not used & forbidden, path


def test_the_gan_knows_no_architecture_and_no_data_set() -> None:
    used = imports(SOURCE / "gan.py")
    assert not any(m.startswith(("forger.networks", "forger.data", "forger.app")) for m in used)


@pytest.mark.parametrize("module", ["forger", "forger.app.cli.main", "forger.app.config.check"])
def test_the_front_door_does_not_import_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
