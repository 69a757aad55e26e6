"""A command is composed and checked once, and no override is dropped in silence."""

from __future__ import annotations

from pathlib import Path

import hydra
import pytest
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict

import forger.app.cli.main  # noqa: F401  (registers resolvers)
from forger.app.config import compose
from forger.app.config.command import Command
from forger.app.config.compose import compose_checked, find_mistakes
from forger.errors import ConfigError

CONFIGS = Path(__file__).parents[3] / "configs"


def command(*overrides: str, multirun: bool = False, extra: Path | None = None) -> Command:
    return Command(CONFIGS, "train", overrides, multirun, str(extra) if extra else None)


def mistakes(*overrides: str, multirun: bool = False, extra: Path | None = None) -> list[str]:
    return find_mistakes(command(*overrides, multirun=multirun, extra=extra))


def test_a_config_is_what_hydra_composes(monkeypatch: pytest.MonkeyPatch) -> None:
    composed = []
    monkeypatch.setattr(
        compose, "compose", lambda *args, **kw: composed.append(1) or hydra.compose(*args, **kw)
    )
    overrides = ["optimizer.lr=1e-3", "model=dcgan", "+trainer.benchmark=true"]
    overrides += ["~callbacks.samples"]
    found = compose_checked(command(*overrides))
    assert len(composed) == 1
    with hydra.initialize_config_dir(str(CONFIGS), job_name="train", version_base="1.3"):
        expected = hydra.compose("train", overrides, return_hydra_config=True)
    with open_dict(expected):
        expected.hydra.mode = RunMode.RUN
    assert OmegaConf.to_container(found) == OmegaConf.to_container(expected)


def test_the_config_of_a_sweep_leaves_its_values_out() -> None:
    found = compose_checked(command("seed=3,4", "model=dcgan,vanilla", "name=x", multirun=True))
    assert (found.seed, found.name, found.hydra.mode) == (0, "x", RunMode.MULTIRUN)
    assert found.hydra.overrides.task == ["seed=3,4", "model=dcgan,vanilla", "name=x"]


def test_a_wrong_command_has_no_config() -> None:
    with pytest.raises(ConfigError, match=r"(?s)2 problems:.*seed=-1: must be.*sede=1: unknown"):
        compose_checked(command("seed=-1", "+sede=1"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seed=1", "seed=2"], "seed=2: seed=1 was written too; leave one of them out"),
        (["seed=1", "++seed=2"], "++seed=2: seed=1 was written too; leave one of them out"),
        (
            ["+callbacks.x={_target_:forger.callbacks.SampleGrid,n:4}", "callbacks.x.n=5"],
            "is overwritten by callbacks.x.n=5; leave one of them out",
        ),
        (["~loss.n_critic=3"], "~loss.n_critic=3: has another value; write ~loss.n_critic"),
        (["~trainer.max_time"], "~trainer.max_time: there is nothing to remove"),
        (["++model=dcgan"], "++model=dcgan: write model=dcgan"),
        (["model@x=dcgan"], "model@x=dcgan: a file goes where its group is; write model=<choice>"),
        (["é=1"], "é=1: cannot be read; quote a value with any of"),
        (["hydra=evaluate"], "hydra=evaluate: is not a setting; write <setting>=<value>"),
        (["hydra.searchpath=[no/such]"], "there is no folder no/such"),
        (["hydra.searchpath=x"], "hydra.searchpath must be a list of strings"),
        (["hydra/launcher=nope"], "hydra/launcher=nope: no such choice"),
        (["seed=${oc.env:NO_SUCH}"], "Environment variable 'NO_SUCH' not found"),
        (["seed=${..}"], "seed=${..}: cannot be resolved"),
        (
            ["metrics/features=inception", "metrics.features.layer='96'"],
            "metrics.features.layer=96: must be one of 64, 192, 768, 2048",
        ),
        (["metrics.features.layer='64'"], "it is a setting of metrics/features=inception"),
        (["metrics=none", "metrics/features=inception"], "does nothing with metrics=none"),
        (
            ["metrics/features=incpetion"],
            "no such choice; did you mean 'inception'? Allowed: classifier, inception, pixels",
        ),
        (["metrics/features=classifier,inception"], "several values; add -m for a run of each"),
        *(
            ([f"{key}=inception"], "=inception: a file is chosen with a slash; write metrics/feat")
            for key in ("metrics.features", "++metrics.features")
        ),
    ],
)
def test_refusals(overrides: list[str], message: str) -> None:
    (found,) = mistakes(*overrides)
    assert message in found


def test_right_ones() -> None:
    assert mistakes("model=dcgan", "model=dcgan", "seed=1", "seed=1") == [], "twice the same"
    assert mistakes("+hydra.job.env_set.X=1", "hydra.run.dir=x") == []
    assert mistakes("metrics/features=classifier,inception", multirun=True) == []


def test_jobs_of_a_sweep_need_folders_of_their_own() -> None:
    (found,) = mistakes("seed=0,1", "hydra.sweep.subdir=same", multirun=True)
    assert "would be the folder of every job" in found
    assert mistakes("seed=0,1", "hydra.sweep.subdir=${hydra.job.id}", multirun=True) == []


def test_a_folder_of_configs_that_is_not_there() -> None:
    (found,) = mistakes(extra=Path("no/such"))
    assert found == "--config-dir no/such: there is no such folder"


EXTRACTOR = """
from forger.metrics.extractor import FeatureExtractor

class Mine(FeatureExtractor):
    def __init__(self, *, size: int = 3): ...
"""


def test_an_extractor_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_extractors.py").write_text(EXTRACTOR)
    folder = tmp_path / "metrics" / "features"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("_target_: own_extractors.Mine\nsize: 3\n")
    assert mistakes("metrics/features=mine", extra=tmp_path) == []
    (found,) = mistakes("metrics/features=mine", "metrics.features.size=x", extra=tmp_path)
    assert found == "metrics.features.size=x: must be a whole number"


def test_a_file_that_sets_a_choice_as_text(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    recipe = tmp_path / "experiment" / "mine.yaml"
    recipe.write_text("# @package _global_\nmetrics:\n  features: inception\n")
    (found,) = mistakes("experiment=mine", extra=tmp_path)
    assert found == (
        "metrics.features=inception: names a file; write metrics/features=inception, or"
        " 'override /metrics/features: inception' in a file's defaults"
    )
    recipe.write_text("# @package _global_\ndefaults:\n  - override /metrics/features: inception\n")
    assert mistakes("experiment=mine", extra=tmp_path) == []


def test_a_resume_belongs_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "again.yaml").write_text("# @package _global_\nresume: logs/x\n")
    with pytest.raises(ConfigError, match=r"^resume=logs/x: belongs on the command line"):
        compose_checked(command("experiment=again", "data=mnist_sample", extra=tmp_path))


@pytest.mark.parametrize(
    ("overrides", "group"),
    [
        (["experiment=stacked_mnist", "metrics=none"], "metrics"),
        (["experiment=stacked_mnist", "debug=smoke"], "metrics"),
        (["experiment=few_shot_mnist", "augment=none"], "augment"),
        (["experiment=r3gan_cifar10", "augment=none"], "augment"),
        (["experiment=cgan_mnist", "condition=none"], "condition"),
        (["experiment=r3gan_cifar10", "schedule=constant"], "schedule"),
        (["experiment=r3gan_mnist_small", "schedule=constant"], "schedule"),
    ],
)
def test_a_group_that_is_turned_off_has_nothing_of_a_recipe(
    overrides: list[str], group: str
) -> None:
    found, without = compose_checked(command(*overrides)), compose_checked(command("metrics=none"))
    assert found[group] == without[group]
    assert found.schedule.augment is None
    assert found.model != without.model  # all else is the recipe's


def test_what_a_recipe_sets_beside_its_own_choice_stays() -> None:
    recipe = "experiment=stylegan2_ada_cifar10"
    alone, named = (compose_checked(command(recipe, *more)) for more in ((), ["schedule=constant"]))
    assert alone.schedule == named.schedule
    assert named.schedule.ema is not None


@pytest.mark.parametrize(
    "more", ["metrics.num_fake=3", "+metrics.seed=3", "metrics/features=pixels"]
)
def test_what_is_typed_beside_no_scores_is_refused(more: str) -> None:
    does_nothing = f"{more}: does nothing with metrics=none; leave one of them out"
    for recipe in ([], ["experiment=stacked_mnist"]):
        assert mistakes("metrics=none", more, *recipe) == [does_nothing]


def test_a_choice_that_lacks_a_setting_of_a_recipe_is_refused_and_mended_by_hand() -> None:
    few = ["experiment=few_shot_mnist", "augment=ada"]
    (told,) = mistakes(*few)
    assert told.startswith("augment.policy=[translation]: unknown setting of forger.augment.ADA")
    assert compose_checked(command(*few, "~augment.policy")).augment.fill == -1
