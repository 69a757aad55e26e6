"""Words of a command that contradict each other, or are for Hydra: none is dropped in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from forger.app.config.command import Command
from forger.app.config.compose import find_mistakes

CONFIGS = Path(__file__).parents[3] / "configs"


def mistakes(*words: str, multirun: bool = False, folder: str | None = None) -> list[str]:
    return find_mistakes(Command(CONFIGS, "train", words, multirun, folder))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed=1", "seed=2"], "seed=2: seed=1 was written too; leave one of them out"),
        (["seed=1", "++seed=2"], "seed=1: is overwritten by ++seed=2; leave one of them out"),
        (
            ["metrics/features=inception", "metrics/features=classifier"],
            "metrics/features=classifier: metrics/features=inception was written too; "
            "leave one of them out",
        ),
        (["~loss.n_critic=3"], "~loss.n_critic=3: has another value; write ~loss.n_critic"),
        (
            ["~trainer.max_time"],
            "~trainer.max_time: is null, which Hydra cannot remove; leave it as it is",
        ),
        (["++model=dcgan"], "++model=dcgan: write model=dcgan"),
        (["model@x=dcgan"], "model@x=dcgan: a file goes where its group is; write model=<word>"),
        (["=1"], "=1: is not a setting; write <setting>=<value>"),
        (["é=1"], "é=1: é is not the name of a setting; write <setting>=<value>"),
        (
            ["optimizer.betas[0]=0.3"],
            "optimizer.betas[0]=0.3: a list is set as a whole; write optimizer.betas=[...]",
        ),
        (["hydra=evaluate"], "belongs to the script; write hydra.<setting>=<value>"),
        (["~hydra"], "belongs to the script; write hydra.<setting>=<value>"),
        (["+hydra.job.nmae=x"], "+hydra.job.nmae=x: unknown setting of Hydra; did you mean 'name'"),
        (["hydra.run.dir=''"], "must name a folder"),
        (["hydra.searchpath=[no/such]"], "there is no folder no/such"),
        (["hydra.searchpath=x"], "hydra.searchpath must be a list of strings"),
        (["hydra/launcher=nope"], "hydra/launcher=nope: no such choice"),
        (["seed=${oc.env:NO_SUCH}"], "Environment variable 'NO_SUCH' not found"),
        (["seed=${..}"], "seed=${..}: cannot be resolved"),
    ],
)
def test_refusals(words: list[str], message: str) -> None:
    (found,) = mistakes(*words)
    assert message in found


def test_the_same_word_twice_is_no_mistake() -> None:
    assert mistakes("model=dcgan", "model=dcgan", "seed=1", "seed=1") == []
    assert mistakes("+hydra.job.env_set.X=1", "hydra.run.dir=x") == []


def test_jobs_of_a_sweep_need_folders_of_their_own() -> None:
    (found,) = mistakes("seed=0,1", "hydra.sweep.subdir=same", multirun=True)
    assert "would be the folder of every job" in found
    assert mistakes("seed=0,1", "hydra.sweep.subdir=${hydra.job.id}", multirun=True) == []


def test_a_folder_of_configs_that_is_not_there() -> None:
    assert mistakes(folder="no/such") == ["--config-dir no/such: there is no such folder"]
