"""Seeds for independent random streams. Owns the mixing of integers; it draws nothing itself.

A stream is named by integers such as (seed, epoch, purpose). Mixed into one number they seed an own
`torch.Generator`, so that a draw depends on these integers alone and never on the global state.
"""

from __future__ import annotations

_MASK = (1 << 64) - 1


def mix(*values: int) -> int:
    """Mixes integers, in order, into one seed that looks unrelated to that of its neighbours.

    Each value is folded in by the finalizer of SplitMix64 (Steele, Lea and Flood, 2014,
    "Fast splittable pseudorandom number generators"). The upper half of the state is returned,
    because torch's CPU generator uses the low 32 bits of its seed only.

    Args:
        values: whole numbers of any sign; the low 64 bits of each count.

    Returns:
        A whole number in [0, 2**32).
    """
    state = 0
    for value in values:
        state = _finalize((state ^ value) + 0x9E3779B97F4A7C15)
    return state >> 32


def _finalize(state: int) -> int:
    state &= _MASK
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB & _MASK
    return state ^ (state >> 31)
