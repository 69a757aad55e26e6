"""Seeds of independent random streams, each a function of its purpose and integers alone."""

from __future__ import annotations

from enum import IntEnum

import torch

STREAMS = 2  # the version of what the seeds below mean; checkpoints and protocols record it
_MASK = (1 << 64) - 1
_LOW_BITS = 28  # of a seed's low 32 bits; the four above hold the purpose


class Purpose(IntEnum):
    """What a stream's numbers are for; no two purposes ever share a seed.

    0 is left to the global random state, which a run seeds with its own small number.
    """

    TRAINING_NOISE = 1
    PENALTIES = 2
    SAMPLES = 3  # the images that a seed means: grids, generate.py, scores, walks
    ORDER = 4  # of the images in an epoch
    FLIPS = 5  # and of random crops
    SCORED_REAL = 6  # which real images are scored
    KID_SUBSETS = 7
    CLASSIFIER_WEIGHTS = 8
    CLASSIFIER_BATCHES = 9
    DRAWS_OF_GENERATOR = 10  # of one that draws by itself, while it is sampled
    TRAINING_LABELS = 11
    SAMPLED_LABELS = 12
    AUGMENTATION = 13
    GENERATOR_NOISE = 14  # of a generator's pixels, and of its style mixing
    OWN_TASK = 15  # what a task of your own draws beside these


def seed_for(purpose: Purpose, *key: int) -> int:
    """Returns the seed of a purpose's stream, in [0, 2**64).

    torch's CPU generator uses the low 32 bits of its seed only, so the purpose stands in their
    upper four; generators of GPUs use the bits above too. The key is what else the numbers depend
    on, for example (seed, iteration).
    """
    mixed = mix(purpose, *key)
    low = (1 << _LOW_BITS) - 1
    return mixed >> 32 << 32 | purpose << _LOW_BITS | mixed & low


def stream(purpose: Purpose, *key: int) -> torch.Generator:
    """Returns a generator on the CPU that draws the purpose's numbers."""
    return torch.Generator().manual_seed(seed_for(purpose, *key))


def mix(*values: int) -> int:
    """Mixes integers, in order, into one in [0, 2**64) that looks unrelated to its neighbours'.

    Each value is folded in by the finalizer of SplitMix64 (Steele, Lea and Flood, 2014,
    "Fast splittable pseudorandom number generators").
    """
    state = 0
    for value in values:
        state = (state ^ value) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state
