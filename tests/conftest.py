"""What every test shares."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `helpers`, wherever a test lies


# Files of minutes, begun first: each is one worker's, and begun last it would run alone.
LONG = ("test_launchers.py", "test_properties.py", "test_evaluate.py", "test_dead_ranks.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG)
