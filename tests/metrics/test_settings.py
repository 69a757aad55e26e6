"""The settings of the scores."""

from __future__ import annotations

import pytest

from forger.errors import ConfigError
from forger.metrics.settings import ScoreSettings


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("kid_subsets", 0, "a whole number of at least 1"),
        ("kid_subset_size", 1, "a whole number of at least 2"),
        ("splits", 2.5, "a whole number of at least 1"),
        ("precision_k", 0, "a whole number of at least 1"),
        ("coverage_k", 2.5, "a whole number of at least 1"),
        ("neighbour_images", -1, "a whole number of at least 1"),
        ("seed", -1, "a whole number of at least 0"),
    ],
)
def test_a_senseless_setting_is_named(name, value, allowed) -> None:
    with pytest.raises(ConfigError, match=rf"^metrics\.{name}={value}: must be {allowed}$"):
        ScoreSettings(**{name: value})


def test_neighbours_are_sought_among_the_kept_images() -> None:
    with pytest.raises(ConfigError, match=r"^metrics\.coverage_k=5: .*neighbour_images\), 5"):
        ScoreSettings(neighbour_images=5)


def test_the_papers_have_another_k_each() -> None:
    """3 for precision and recall in arXiv:1904.06991, 5 for coverage in arXiv:2002.09797."""
    assert (ScoreSettings().precision_k, ScoreSettings().coverage_k) == (3, 5)
