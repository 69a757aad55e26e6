"""A dotted word whose slash form is a group chooses a file, whoever reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from forger.app.config.command import Command
from forger.app.config.compose import find_mistakes

CONFIGS = Path(__file__).parents[3] / "configs"


def command(*words: str, multirun: bool = False, extra: Path | None = None) -> Command:
    return Command(CONFIGS, "train", words, multirun, str(extra) if extra else None)


@pytest.mark.parametrize("name", ["inception", "classifier,inception", "inc", "[inception]"])
def test_a_dot_for_a_slash_is_told(name: str) -> None:
    for plus in ("", "++"):
        override = f"{plus}metrics.features={name}"
        (found,) = find_mistakes(command(override))
        assert found == (
            f"{override}: a file is chosen with a slash; write metrics/features={name}"
        )


def test_a_nested_group_is_checked_like_any() -> None:
    key = "metrics/features"
    assert find_mistakes(command(f"{key}=inception")) == []
    assert find_mistakes(command(f"{key}=classifier,inception", multirun=True)) == []
    assert find_mistakes(command(f"{key}=incpetion")) == [
        f"{key}=incpetion: no such choice; did you mean 'inception'? "
        "Allowed: classifier, inception, pixels"
    ]
    assert find_mistakes(command(f"+{key}=inception")) != []
    (found,) = find_mistakes(command(f"{key}=classifier,inception"))
    assert found.endswith("several values; add -m for a run of each")


def test_the_chosen_file_is_the_one_that_is_checked() -> None:
    words = ["metrics/features=inception", "metrics.features.layer='96'"]
    (found,) = find_mistakes(command(*words))
    assert found == "metrics.features.layer=96: must be one of 64, 192, 768, 2048"
    (found,) = find_mistakes(command("metrics.features.layer='64'"))
    assert found.endswith("it is a setting of metrics/features=inception")


def test_a_choice_where_the_config_has_none() -> None:
    (found,) = find_mistakes(command("metrics=none", "metrics/features=inception"))
    assert found == (
        "metrics/features=inception: metrics=none has no such choice; leave one of them out"
    )


EXTRACTOR = """
from forger.metrics.extractor import FeatureExtractor

class Mine(FeatureExtractor):
    def __init__(self, *, size: int = 3): ...

class Other:
    def __init__(self, *, size: int = 3): ...
"""


def test_an_extractor_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_extractors.py").write_text(EXTRACTOR)
    folder = tmp_path / "metrics" / "features"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("_target_: own_extractors.Mine\nsize: 3\n")
    (folder / "other.yaml").write_text("_target_: own_extractors.Other\nsize: 3\n")
    right = command("metrics/features=mine", extra=tmp_path)
    assert find_mistakes(right) == []
    (found,) = find_mistakes(
        command("metrics/features=mine", "metrics.features.size=x", extra=tmp_path)
    )
    assert found == "metrics.features.size=x: must be a whole number"
    (found,) = find_mistakes(command("metrics/features=other", extra=tmp_path))
    assert "must derive from forger.metrics.extractor.FeatureExtractor" in found


def test_a_file_that_sets_a_choice_as_text(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    recipe = tmp_path / "experiment" / "mine.yaml"
    recipe.write_text("# @package _global_\nmetrics:\n  features: inception\n")
    (found,) = find_mistakes(command("experiment=mine", extra=tmp_path))
    assert found == (
        "metrics.features=inception: names a file, and only a choice may; write "
        "metrics/features=inception on the command line, or 'override /metrics/features: inception'"
        " in the defaults of the file that says this"
    )
    recipe.write_text("# @package _global_\ndefaults:\n  - override /metrics/features: inception\n")
    assert find_mistakes(command("experiment=mine", extra=tmp_path)) == []
