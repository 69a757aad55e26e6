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
        ("k", 0, "a whole number of at least 1"),
        ("neighbour_images", -1, "a whole number of at least 1"),
        ("seed", -1, "a whole number of at least 0"),
    ],
)
def test_a_senseless_setting_is_named(name, value, allowed) -> None:
    with pytest.raises(ConfigError, match=rf"^metrics\.{name}={value}: must be {allowed}$"):
        ScoreSettings(**{name: value})


def test_neighbours_are_sought_among_the_kept_images() -> None:
    with pytest.raises(ConfigError, match=r"^metrics\.k=5: must be below metrics\.neighbour_im"):
        ScoreSettings(neighbour_images=5)
