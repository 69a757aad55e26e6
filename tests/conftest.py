"""What every test shares."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `helpers`, wherever a test lies

# Files of half a minute or more, the longest first: a file is one process's, and begun last it
# would run alone in the end. xdist keeps this order with --no-loadscope-reorder.
LONGEST = ("launchers", "train", "multi_node", "distributed", "evaluate", "properties", "resume")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the longest files."""
    order = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


def pytest_report_header(config: pytest.Config) -> str | None:
    """Says why tests of a whole folder are left out."""
    left_out = "not gpu" in str(config.getoption("markexpr"))
    return "tests/gpu is left out: it needs a GPU; run make test-gpu" if left_out else None
