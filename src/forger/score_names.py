"""The names of scores: plain by Inception's features, with the extractor's name in front by others.

So two scores by different features, which can never be compared, never share a name.
"""

from __future__ import annotations

from collections.abc import Collection

RATES = ("tpr", "fnr", "tnr", "fpr", "accuracy")  # of the discriminator
RELATIVE = "relative_"  # in front of rates of a loss that has no absolute boundary
OF_LOGITS = ("auroc", "train_logit", "test_logit", "gap", "gap_auroc")  # scores of the same
BY_FEATURES = ("fid", "kid", "precision", "recall", "density", "coverage")  # these take a prefix
MODES = ("modes_reached", "kl_to_uniform")  # of data whose classes are modes; they take no prefix
BY_CLASS = ("intra_fid", "label_accuracy")  # of runs with classes; the second takes no prefix
FEATURE_DISTANCE = "feature_distance"  # of translations to the right images; it takes a prefix

OF_PROMPTS = "right"  # of images of texts, behind the prompts and what is right: `seen_ink_right`
R_PRECISION = "r_precision"  # of the same, by a matcher of images and texts; it takes no prefix


def base_of(name: str) -> str:
    """Returns what a score is by whatever features: `fid` for `fid` and `classifier_fid`."""
    # in this order: the one ends like another
    bases = (*BY_CLASS, R_PRECISION, *BY_FEATURES, FEATURE_DISTANCE, OF_PROMPTS)
    found = (base for base in bases if name == base or name.endswith(f"_{base}"))
    return next(found, name)


def better(name: str) -> str | None:
    """Returns `min` or `max`, whichever is better of a score; None where neither is.

    Args:
        name: with or without `val/`.
    """
    base = base_of(name.removeprefix("val/"))
    if base in ("fid", "intra_fid", "kid", "kl_to_uniform", "l1", FEATURE_DISTANCE):
        return "min"
    others = (
        *("label_accuracy", "classes_reached", "class_entropy", "modes_reached", "psnr", "ssim"),
        *("classification_accuracy", "classification_accuracy_of_sources", OF_PROMPTS, R_PRECISION),
    )
    known = base in (*BY_FEATURES, *others)
    return "max" if known or base.endswith("_score") else None


def is_fid(column: str) -> bool:
    """Tells whether a logged metric is a FID by any features, as in `val/classifier_fid`."""
    return column.startswith("val/") and base_of(column.removeprefix("val/")) == "fid"


def score_columns(
    prefix: str,
    score_name: str | None,
    by_class: Collection[str] = (),
    counts_modes: bool = False,
    of_pairs: Collection[str] = (),
) -> list[str]:
    """Returns the names under which scores of features are logged.

    Args:
        prefix: of the extractor.
        score_name: of its Inception score; None: it has none.
        by_class: those of `BY_CLASS` that the run has.
        counts_modes: whether it has those of `MODES`.
        of_pairs: those that compare each translation with the right image.
    """
    names = [f"{prefix}{base}" for base in (*BY_FEATURES, "kid_std")]
    if score_name is not None:
        names += [score_name, f"{score_name}_std"]
    if prefix:  # Inception does not know the data's own classes
        names += ["class_entropy", "classes_reached"]
    names += MODES if counts_modes else ()
    names += [name if name == "label_accuracy" else f"{prefix}{name}" for name in by_class]
    names += [f"{prefix}{name}" if name == FEATURE_DISTANCE else name for name in of_pairs]
    return [f"val/{name}" for name in names]
