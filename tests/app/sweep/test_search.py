"""A search from its overrides to its report, with trials that only pretend to train."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from searching import CONFIGS, FakeEngine, Killed, by_rate, run_search, states, study_of, value

from forger.app.sweep.folder import Job
from forger.app.sweep.study import INTERRUPTED, REPEATS
from forger.errors import ConfigError

LR = "optimizer.lr=tag(log,interval(1e-5,1e-1))"
GOAL = "objective=train/loss_d"


def rates(engine: FakeEngine) -> list[float]:
    return [float(value(outcome, "optimizer.lr")) for outcome in engine.known.values()]


def test_a_search_finds_what_is_good_and_says_how_to_run_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "forger")
    engine = FakeEngine(tmp_path / "it's a sweep", by_rate)
    run_search(engine, GOAL, LR, "name='two words'", "hydra.sweeper.n_trials=16")
    study, folder = study_of(engine, "two words"), engine.folder.path
    assert states(study) == ["COMPLETE"] * 16
    assert [*engine.known] == [trial.number for trial in study.trials]
    assert study.best_params["optimizer.lr"] == pytest.approx(0.001, abs=0.002)
    results = OmegaConf.load(folder / "optuna_results.yaml")
    assert (results.name, results.best_evaluated_value) == ("optuna", study.best_value)
    assert results.best_evaluated_params["optimizer.lr"] == study.best_params["optimizer.lr"]
    assert results.trials == {"complete": 16, "pruned": 0, "failed": 0, "interrupted": 0}
    (again,) = (r.message for r in caplog.records if r.message.startswith("again"))
    _, _, *overrides = shlex.split(again.removeprefix("again"))
    best = engine.known[study.best_trial.number]
    assert overrides == [o for o in best.overrides if not o.startswith("sweep.")]
    assert f"trial {best.number}" in caplog.text
    assert str(best.folder) in caplog.text
    assert len(engine.finished) == 16
    assert "| 15 | complete |" in (folder / "search.md").read_text()
    (text,) = (o for o in engine.known[1].overrides if o.startswith("sweep.trial="))
    assert OverridesParser.create().parse_override(text).value() == {
        "storage": f"sqlite:///{folder}/optuna.db",
        "study": "two words",
        "number": 1,
        "metric": "train/loss_d",
    }


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_same_seed_searches_the_same(sampler: str, tmp_path: Path) -> None:
    found = []
    own = [GOAL, LR, f"hydra/sweeper/sampler={sampler}", "hydra.sweeper.n_trials=6"]
    own += ["hydra.sweeper.sampler.n_startup_trials=3"] if sampler == "tpe" else []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        engine = FakeEngine(tmp_path / name, by_rate)
        run_search(engine, *own, f"hydra.sweeper.sampler.seed={seed}")
        found.append(rates(engine))
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_a_grid_runs_each_combination_once(tmp_path: Path) -> None:
    engine = FakeEngine(tmp_path, by_rate, parallel=4)
    overrides = ("optimizer.lr=0.1,0.001,0.01", "seed=range(2)", "hydra/sweeper/sampler=grid")
    run_search(engine, GOAL, *overrides, "hydra.sweeper.direction=maximize")
    combinations = {outcome.overrides[1:3] for outcome in engine.known.values()}
    assert len(combinations) == len(engine.known) == 6
    assert engine.batches == [4, 2]
    assert study_of(engine).best_params["optimizer.lr"] == "0.1", "the higher the better"


def test_each_end_is_told_as_what_it_is(tmp_path: Path) -> None:
    ends: list[dict[str, Any]] = [
        {"status": "finished", "value": 1.0},
        {"status": "finished", "value": float("nan")},
        {"status": "finished", "value": None},
        {"status": "pruned", "reason": "falls behind"},
        {"status": "failed", "reason": "loss is nan", "error": "DivergedError"},
        {"status": "failed", "reason": "no such file", "error": "DataError"},
        {"status": "interrupted", "reason": "killed by SIGKILL"},
        {"status": "finished", "value": 2.0},
    ]
    engine = FakeEngine(tmp_path, lambda job: ends[job.number])
    run_search(engine, GOAL, LR, "hydra.sweeper.n_trials=7")
    study = study_of(engine)
    assert states(study) == ["COMPLETE", "PRUNED", "FAIL", "PRUNED", "PRUNED", "FAIL", "FAIL"]
    reasons = [trial.user_attrs["reason"] for trial in study.trials]
    assert reasons[1] == "its score is nan"
    assert reasons[3:] == ["falls behind", "loss is nan", "no such file", "killed by SIGKILL"]
    shown = ["finished", "pruned", "finished", "pruned", "pruned", "failed", "interrupted"]
    assert [outcome.status for outcome in engine.finished] == shown
    run_search(engine, GOAL, LR, "hydra.sweeper.n_trials=7")
    assert [*engine.known] == [*range(8)], "what was killed is repeated when it goes on"
    assert "interrupted" not in {outcome.status for outcome in engine.finished}


@pytest.mark.parametrize(("dies_at", "parallel"), [(0, 1), (5, 4)])
def test_a_killed_search_goes_on_to_the_same_number_of_trials(
    dies_at: int, parallel: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    died: list[Job] = []

    def ends(job: Job) -> dict[str, Any]:
        if job.number == dies_at and not died:
            died.append(job)
            raise Killed
        if float(value(job, "optimizer.lr")) > 0.001:
            return {"status": "failed", "reason": "loss is nan", "error": "DivergedError"}
        return by_rate(job)

    caplog.set_level("INFO", "forger")
    engine = FakeEngine(tmp_path, ends, parallel)
    command = (GOAL, LR, "hydra.sweeper.n_trials=8")
    with pytest.raises(Killed):
        run_search(engine, *command)
    run_search(engine, *command)
    trials = study_of(engine).trials
    killed = [t for t in trials if t.user_attrs.get(INTERRUPTED)]
    others = [t for t in trials if not t.user_attrs.get(INTERRUPTED)]
    assert {t.state.name for t in killed} == {"FAIL"}
    assert len(others) == 8
    assert {t.state.name for t in others} == {"COMPLETE", "PRUNED"}, "both were met"
    # what had ended before the kill was kept, though nobody had told the study
    assert dies_at in {t.number for t in killed}
    assert all(t.number >= dies_at for t in killed)
    for trial in killed:
        (again,) = (t for t in others if t.user_attrs.get(REPEATS) == trial.number)
        assert again.params == trial.params
    assert len({t.params["optimizer.lr"] for t in others}) == 8, "no trial was drawn twice"
    assert {outcome.status for outcome in engine.finished} == {"finished", "pruned"}
    assert len(engine.finished) == 8
    assert engine.complete, "going on would do nothing"
    run_search(engine, *command)
    assert "nothing is left to do: write hydra.sweeper.n_trials=<more>" in caplog.text


def test_a_study_elsewhere_goes_on_in_another_folder(tmp_path: Path) -> None:
    elsewhere = f"hydra.sweeper.storage=sqlite:///{tmp_path}/all.db"
    command = (GOAL, LR, elsewhere, "hydra.sweeper.study_name=mine")
    first, second, third = (FakeEngine(tmp_path / name, by_rate) for name in "abc")
    run_search(first, *command, "hydra.sweeper.n_trials=3")
    run_search(second, *command, "hydra.sweeper.n_trials=5")
    assert ([*first.known], [*second.known]) == ([0, 1, 2], [3, 4])
    study = optuna.load_study(study_name="mine", storage=f"sqlite:///{tmp_path}/all.db")
    assert len(study.trials) == 5
    assert not {*rates(first)} & {*rates(second)}
    with pytest.raises(ConfigError, match="has objective=train/loss_d, not train/loss_g"):
        run_search(third, *command[1:], "objective=train/loss_g")
    with pytest.raises(ConfigError, match="is to minimize"):
        run_search(third, *command, "hydra.sweeper.direction=maximize")


def test_nothing_is_begun_after_a_stop(tmp_path: Path) -> None:
    def ends(job: Job) -> dict[str, Any]:
        if job.number == 2:
            engine.folder.stop("asked")
        return by_rate(job)

    engine = FakeEngine(tmp_path, ends)
    run_search(engine, GOAL, LR)
    assert len(engine.known) == 3


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([LR], "objective=null: a search needs a score"),
        ([GOAL], "nothing to search"),
        (["objective=train/loss_g,train/loss_d"], "name one metric"),
        ([GOAL, "optimizer.lrr=interval(1,2)"], "optimizer.lrr"),
        ([GOAL, "optimizer.lr=interval(-1,2)"], "optimizer.lr=-1.0: must be a number above 0"),
        ([GOAL, "loss=hinge,hing"], "loss=hing: no such choice"),
        ([GOAL, LR, "hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials=0: must be"),
        ([GOAL, LR, "hydra.sweeper.direction=up"], "must be one of minimize, maximize"),
        ([GOAL, LR, "+hydra.sweeper.n_trial=3"], "did you mean 'n_trials'"),
        ([GOAL, LR, "hydra/sweeper/sampler=grid"], "is an interval, which has no end"),
        ([GOAL, LR, "hydra.sweeper.sampler=random"], "random: is no class of optuna.samplers"),
        ([GOAL, LR, "hydra.sweeper.sampler._target_=optuna.samplers.TPSampler"], "TPESampler"),
        ([GOAL, LR, "+hydra.sweeper.sampler.sed=1"], "did you mean 'seed'"),
        ([GOAL, LR, "+hydra.sweeper.pruner.warmup=1"], "NopPruner has no such setting"),
        ([GOAL, LR, "hydra.sweeper.storage='sqlite://'"], "is in memory"),
        ([GOAL, LR, "hydra.sweeper.storage='postgresql://me:abc@host/x'"], "the password would"),
        ([GOAL, LR, "hydra.sweeper.storage=somewhere"], "must be a database's URL"),
    ],
)
def test_what_is_senseless_is_refused_before_any_job(
    overrides: list[str], told: str, tmp_path: Path
) -> None:
    engine = FakeEngine(tmp_path / "sweep", by_rate)
    with pytest.raises(ConfigError) as refused:
        run_search(engine, *overrides, checked=True)
    assert told in str(refused.value)
    assert "abc" not in str(refused.value)
    assert not engine.folder.path.exists()


@pytest.mark.parametrize("recipe", sorted(p.stem for p in (CONFIGS / "hparams_search").glob("*")))
def test_each_recipe_searches(recipe: str, tmp_path: Path) -> None:
    engine = FakeEngine(tmp_path, lambda _: {"status": "finished", "value": 1.0})
    run_search(engine, f"hparams_search={recipe}", "hydra.sweeper.n_trials=2", checked=True)
    assert len(engine.known) == 2
    assert engine.known[0].overrides[0] == f"hparams_search={recipe}"
