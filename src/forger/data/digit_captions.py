"""What captions say of a drawn digit: its attributes, and several wordings of them."""

from __future__ import annotations

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

INKS = {  # also grounds; RGB
    "black": (20, 20, 20),
    "white": (245, 245, 245),
    "red": (215, 40, 40),
    "green": (40, 150, 60),
    "blue": (40, 80, 210),
    "yellow": (245, 215, 60),
    "purple": (140, 50, 170),
    "orange": (245, 140, 40),
}
VALUES: dict[str, tuple[str, ...]] = {
    "digit": tuple("0123456789"),
    "ink": tuple(INKS),
    "ground": tuple(INKS),
    "thickness": ("thin", "medium", "thick"),
    "slant": ("left", "upright", "right"),
    "place": ("left", "middle", "right", "top", "bottom"),
}
"""The attributes, with the names of what each can be."""

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_THICKNESS = (("thin", "fine"), ("", ""), ("thick", "bold"))
_SLANT = (("left-leaning", "backslanted"), ("", ""), ("slanted", "right-leaning"))
_PLACE = (
    *(("on the left", "to the left"), ("", ""), ("on the right", "to the right")),
    *(("at the top", "near the top"), ("at the bottom", "near the bottom")),
)
_WORDINGS = (  # {a}: an article where the next word has one
    "{a} {thick} {slant} {digit} {place} , {ink} on {ground}",
    "{a} {thick} {slant} {ink} {digit} {place} on {ground}",
    "{ink} {digit} {place} , {thick} {slant} , {ground} background",
    "the digit {digit} in {ink} on {ground} {place} , {slant} {thick}",
)
UNSEEN_WORDINGS = (  # of no training image
    "please draw {place} the number {digit} using {ink} paint over {ground} , {thick} {slant}",
    "this shows {a} {slant} {thick} {digit} {place} written with {ink} ink upon {ground} paper",
    "{ground} behind , {ink} in front : {digit} , {place} , {thick} , {slant}",
)


def draw_attributes(
    labels: NDArray[np.int64], random: RandomState, unseen: bool
) -> NDArray[np.int64]:
    """Draws what digits `(N,)` look like, evenly.

    Args:
        labels: the digits.
        random: draws.
        unseen: whether colours are those that training images of this digit never have together:
            of each ink one ground in seven, another for each digit.

    Returns:
        numbers of `VALUES`, a column for each attribute, `(N, 6)`.
    """
    count, others = len(labels), len(INKS) - 1
    ink, thickness, slant, place = (
        random.randint(len(VALUES[name]), size=count)
        for name in ("ink", "thickness", "slant", "place")
    )
    held_out = (-5 * labels - ink) % others
    step = np.zeros_like(labels) if unseen else random.randint(1, others, size=count)
    ground = (held_out + step) % others
    ground += ground >= ink  # no ink is on itself
    return np.stack([labels, ink, ground, thickness, slant, place], 1)


def captions_of(
    attributes: NDArray[np.int64], random: RandomState, wordings: tuple[str, ...] = _WORDINGS
) -> list[list[str]]:
    """Words what digits look like, once by each wording, with synonyms drawn at random.

    What is usual goes without saying: medium width, upright, in the middle.

    Args:
        attributes: numbers of `VALUES`, `(N, 6)`.
        random: draws the synonyms.
        wordings: the sentences.

    Returns:
        for each digit as many captions as there are wordings.
    """
    names, found = tuple(INKS), []
    synonyms = random.randint(2, size=(len(attributes), len(wordings), 4))
    for row, chosen in zip(attributes.tolist(), synonyms.tolist(), strict=True):
        digit, ink, ground, thickness, slant, place = row
        found.append(
            [
                _tidied(
                    wording.format(
                        a="{a}",
                        digit=(_DIGITS[digit], str(digit))[words[0]],
                        ink=names[ink],
                        ground=names[ground],
                        thick=_THICKNESS[thickness][words[1]],
                        slant=_SLANT[slant][words[2]],
                        place=_PLACE[place][words[3]],
                    )
                )
                for wording, words in zip(wordings, chosen, strict=True)
            ]
        )
    return found


def _tidied(sentence: str) -> str:
    """Leaves out gaps and commas of what is not said, and sets the article."""
    words = list[str]()
    for word in sentence.split():
        if word == "," and (not words or words[-1].endswith(",")):
            continue
        if word in ",:":
            words[-1] += word
        else:
            words.append(word)
    if "{a}" in words:
        at = words.index("{a}")
        words[at] = "an" if words[at + 1][0] in "aeiou8" else "a"
    return " ".join(words).rstrip(",")
