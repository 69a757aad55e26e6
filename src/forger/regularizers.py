"""Settings of the terms that stand beside the adversarial ones in a loss. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from forger.bounds import (
    FractionBelowOne,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    check_fields,
)
from forger.errors import ConfigError

_TERMS = ("lecam", "cr", "cr_fake", "zcr_d", "zcr_g", "path_length", "matching")
_BELONGS = {  # settings that do nothing unless one of some others is on
    **dict.fromkeys(("lecam_decay", "lecam_start"), ("lecam",)),
    **{"cr_flip": ("cr", "cr_fake"), "zcr_radius": ("zcr_d", "zcr_g")},
    "path_length_interval": ("path_length",),
    **dict.fromkeys(("matching_power", "matching_interval"), ("matching",)),
}


@dataclass(frozen=True, kw_only=True)
class Regularizers:
    """Weights of gradient penalties and other regularizers, with what belongs to them; 0 is off.

    Args:
        r1_gamma: weight of R1 on real images.
        r2_gamma: weight of R2 on fake images.
        penalty_interval: R1 and R2 are added to every so many updates of the discriminator, their
            weight times as much.
        path_length: weight of the path-length penalty (arXiv:1912.04958) of a generator that has
            styles.
        path_length_interval: it is added to every so many updates of the generator, its weight
            times as much.
        matching: weight of the matching-aware penalty (arXiv:2008.05865) of a condition of texts.
        matching_power: of the gradient's norm in it.
        matching_interval: it is added to every so many updates of the discriminator, its weight
            times as much.
        lecam: weight of LeCam's term (`forger.lecam`).
        lecam_decay: of its anchors, for each update of the discriminator.
        lecam_start: updates of the discriminator before the term begins.
        cr: weight of consistency on real images (`forger.consistency`).
        cr_fake: the same on fake images; both are bCR.
        cr_flip: whether images are mirrored for it, beside being moved.
        zcr_d: weight of consistency of D where the noise changes a little.
        zcr_g: weight of the change of G's images there, which is maximised.
        zcr_radius: deviation of that change of the noise.

    Raises:
        ConfigError: an argument is out of its range, or belongs to a term that is off.
    """

    r1_gamma: NonNegativeFloat = 0.0
    r2_gamma: NonNegativeFloat = 0.0
    penalty_interval: PositiveInt = 1
    path_length: NonNegativeFloat = 0.0
    path_length_interval: PositiveInt = 4
    matching: NonNegativeFloat = 0.0
    matching_power: PositiveFloat = 6.0
    matching_interval: PositiveInt = 1
    lecam: NonNegativeFloat = 0.0
    lecam_decay: FractionBelowOne = 0.99
    lecam_start: NonNegativeInt = 1000
    cr: NonNegativeFloat = 0.0
    cr_fake: NonNegativeFloat = 0.0
    cr_flip: bool = True
    zcr_d: NonNegativeFloat = 0.0
    zcr_g: NonNegativeFloat = 0.0
    zcr_radius: PositiveFloat = 0.05

    def __post_init__(self) -> None:
        check_fields(self, "loss")
        for name, owners in _BELONGS.items():
            value, on = getattr(self, name), any(owner in self.regularizers for owner in owners)
            if value != getattr(Regularizers, name) and not on:
                of = " and ".join(f"loss.{owner}" for owner in owners)
                raise ConfigError(f"loss.{name}={value}: is for {of}, off here; leave it out")

    @property
    def regularizers(self) -> dict[str, float]:
        """The weights of the terms beside penalties that a task is to add, of those that are on."""
        return {name: getattr(self, name) for name in _TERMS if getattr(self, name) > 0}
