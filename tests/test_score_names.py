"""Which score a name is of, and which is better."""

from __future__ import annotations

import pytest

from forger.score_names import base_of, better, is_fid, score_columns


@pytest.mark.parametrize(
    ("name", "base", "which"),
    [
        ("fid", "fid", "min"),
        ("classifier_fid", "fid", "min"),
        ("classifier_intra_fid", "intra_fid", "min"),
        ("intra_fid", "intra_fid", "min"),
        ("label_accuracy", "label_accuracy", "max"),
        ("pixels_coverage", "coverage", "max"),
        ("classifier_score", "classifier_score", "max"),
        ("modes_reached", "modes_reached", "max"),
        ("kl_to_uniform", "kl_to_uniform", "min"),
        ("d_gap", "d_gap", None),
        ("psnr", "psnr", "max"),
        ("l1", "l1", "min"),
        ("pixels_feature_distance", "feature_distance", "min"),
        ("r_precision", "r_precision", "max"),
        ("seen_ink_right", "right", "max"),
        ("classification_accuracy_of_sources", "classification_accuracy_of_sources", "max"),
    ],
)
def test_what_a_name_says(name: str, base: str, which: str | None) -> None:
    assert base_of(name) == base
    assert better(f"val/{name}") == better(name) == which
    assert is_fid(f"val/{name}") == (base == "fid")


def test_scores_by_class_are_columns_of_the_runs_that_have_them() -> None:
    plain = score_columns("classifier_", "classifier_score")
    assert plain[0] == "val/classifier_fid"
    both = score_columns("classifier_", "classifier_score", ["intra_fid", "label_accuracy"])
    assert both == [*plain, "val/classifier_intra_fid", "val/label_accuracy"]
    modes = score_columns("classifier_", "classifier_score", counts_modes=True)
    assert modes == [*plain, "val/modes_reached", "val/kl_to_uniform"]
    assert score_columns("", "inception_score", ["intra_fid"])[-1] == "val/intra_fid"
    pairs = score_columns("classifier_", "classifier_score", of_pairs=["l1", "feature_distance"])
    assert pairs == [*plain, "val/l1", "val/classifier_feature_distance"]
