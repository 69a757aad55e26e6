from __future__ import annotations

import itertools

from forger.seeds import mix


def test_neighbours_get_unrelated_seeds() -> None:
    values = [mix(*pair) for pair in itertools.product(range(-2, 100), repeat=2)]
    assert len(set(values)) == len(values)
    assert all(0 <= value < 2**32 for value in values)
    # About half of the bits differ between neighbours.
    differing = [(a ^ b).bit_count() for a, b in itertools.pairwise(values)]
    assert 15 < sum(differing) / len(differing) < 17


def test_order_and_number_of_values_count() -> None:
    assert len({mix(), mix(0), mix(0, 0), mix(1, 2), mix(2, 1), mix(1, 2, 0)}) == 6


def test_values_are_fixed() -> None:
    """Changing them would change every run; the first is SplitMix64's own for seed 0."""
    assert mix(0) == 0xE220A8397B1DCDAF >> 32
    assert mix(1, 2, 3) == 3497215824
