"""`metrics`, evaluate.py and generate.py are checked as strictly as training, without torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from forger import hardware
from forger.app.config.check import find_problems
from forger.app.config.command import Command
from forger.app.config.compose import find_mistakes

CONFIGS = Path(__file__).parents[3] / "configs"
ELSEWHERE = "is for train.py; the run has its own on record"
STOP = "callbacks=early_stopping callbacks.early_stopping"
LIGHTNINGS = "_target_:lightning.pytorch.callbacks"


def mistakes(script: str, *overrides: str, multirun: bool = False) -> list[str]:
    return find_mistakes(Command(CONFIGS, script, overrides, multirun, script=script))


def make_run(folder: Path, *checkpoints: str) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text("{}")
    for name in checkpoints:
        (folder / "checkpoints" / f"{name}.ckpt").write_bytes(b"PK\x03\x04...")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder as far as the check looks."""
    return make_run(tmp_path / "logs" / "mine" / "first", "last")


def compose_main(name: str, *overrides: str) -> Any:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(name, list(overrides))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("metrics=auto", {"when": "ready", "num_fake": 2000, "reference": "test"}),
        ("metrics=quick", {"when": "always", "num_fake": 2000, "reference": "test"}),
        ("metrics=full", {"when": "always", "num_fake": None, "reference": "test"}),
        ("metrics=paper", {"every_n_steps": 10000, "num_fake": 50000, "reference": "train"}),
    ],
)
def test_what_each_choice_of_metrics_means(override: str, expected: dict[str, Any]) -> None:
    metrics = compose_main("train", override).metrics
    assert {key: metrics[key] for key in expected} == expected
    kind = "Inception" if override == "metrics=paper" else "Classifier"
    assert metrics.features._target_.endswith(kind)


def test_train_scores_by_itself_and_evaluate_in_full() -> None:
    assert compose_main("train").metrics.when == "ready"
    metrics = compose_main("evaluate").metrics
    assert (metrics.when, metrics.every_n_steps, metrics.num_fake) == (None, None, None)
    assert compose_main("train", "metrics=none").metrics == {}
    assert mistakes("train", "metrics=none") == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("metrics=autto", "metrics=autto: no such choice; did you mean 'auto'? Allowed: auto,"),
        ("metrics.when=often", "metrics.when=often: must be one of always, ready"),
        ("metrics.every_n_steps=0", "must be a whole number of at least 1"),
        ("metrics.num_fake=1e4", "must be a whole number of at least 1, or null; write 10000"),
        ("metrics.precision_k=2000", "images to score (metrics.num_fake), 2,000; write"),
        ("metrics.neighbour_images=4", "metrics.coverage_k=5: must be below the number of feat"),
        ("metrics.num_real=4", "to compare with (metrics.num_real), 4; write metrics.coverage_"),
        ("metrics.num_fake=8", "must be at most the number of images to score (metrics.num_fa"),
        ("metrics.kid_subset_size=1", "_size=1: must be a whole number of at least 2"),
        ("metrics.reference=tset", "must be one of test, train; did you mean 'test'?"),
        ("metrics.weights=rwa", "must be one of ema, raw; did you mean 'raw'?"),
        ("metrics.seed=4294967296", "must be a whole number from 0 to 4294967295"),
        ("metrics.min_accuracy=99", "must be a number from 0 to 1, or null"),
        ("metrics.nmu_fake=3", "metrics.nmu_fake=3: unknown setting; did you mean 'num_fake'?"),
        ("metrics.features.min_acuracy=1", "did you mean 'min_accuracy'?"),
        ("metrics.inception_weights=/x", "is used with metrics/features=inception only"),
        (
            "metrics/features=inception metrics.min_accuracy=0.9",
            "metrics.min_accuracy=0.9: is used with metrics/features=classifier only; leave it out",
        ),
        (f"{STOP}.metric=train/loss", "no such metric is logged; did you mean 'train/loss_d'?"),
        (f"{STOP}.patience=0", "must be a whole number of at least 1"),
        (f"{STOP}.mode=low", "must be one of min, max"),
        (
            f"+callbacks.stop={{{LIGHTNINGS}.EarlyStopping,monitor:val/classifier_fid}}",
            "write callbacks=early_stopping",
        ),
        (
            f"+callbacks.stop={{{LIGHTNINGS}.early_stopping.EarlyStopping,monitor:val/x}}",
            "write callbacks=early_stopping",
        ),
        (
            f"+callbacks.keep={{{LIGHTNINGS}.ModelCheckpoint,monitor:val/classifier_fid}}",
            "leave this callback out: checkpoints/best.ckpt is kept by the FID",
        ),
        (
            f"+callbacks.keep={{{LIGHTNINGS}.ModelCheckpoint,monitor:val_loss}}",
            "callbacks.keep.monitor=val_loss: no such metric is logged",
        ),
    ],
)
def test_refusals_of_train(overrides: str, message: str) -> None:
    (found,) = mistakes("train", *overrides.split())
    assert message in found


@pytest.mark.parametrize(
    "override",
    [
        "metrics.min_accuracy=0.9",
        f"+callbacks.keep={{{LIGHTNINGS}.ModelCheckpoint,monitor:train/loss_g}}",
    ],
)
def test_right_overrides_of_train(override: str) -> None:
    assert mistakes("train", override) == []


class TestRun:
    @pytest.mark.parametrize("script", ["evaluate", "generate"])
    def test_either_script_reads_one(self, script: str, run: Path) -> None:
        assert mistakes(script, f"run={run}") == []
        assert mistakes(script, f"run={run / 'checkpoints' / 'last.ckpt'}") == []
        assert mistakes(script) == ["run: is needed; write run=<run folder>"]
        assert mistakes(script, "run=") == ["run='': must name a run; write run=<run folder>"]
        assert mistakes(script, "run=no/x") == ["run=no/x: there is no such folder or file"]
        assert f"{run}: is not a setting; write run={run}" in mistakes(script, str(run))
        (found,) = mistakes(script, f"run={run}", "checkpoint=last,best", multirun=True)
        assert found.startswith(f"-m: {script}.py runs once; ")

    @pytest.mark.parametrize(
        ("where", "message"),
        [
            ("../frist", "there is no such folder or file; did you mean 'first'?"),
            ("..", "is not a run folder, but holds 1; the newest is run={run}"),
            ("checkpoints", "is not a run folder; write run={run}"),
            ("/", "is not a run folder; it has no checkpoints/last.ckpt"),
            ("config.yaml", "is not a checkpoint; write run=<run folder> or run=<file>.ckpt"),
        ],
    )
    def test_something_else_than_a_run(self, where: str, message: str, run: Path) -> None:
        path = CONFIGS if where == "/" else (run / where).resolve()
        (found,) = mistakes("generate", f"run={path}")
        assert message.format(run=run) in found

    def test_a_checkpoint_that_is_not_there(self, run: Path, tmp_path: Path) -> None:
        (found,) = mistakes("generate", f"run={make_run(tmp_path / 'short')}")
        assert found.endswith(
            "no checkpoints/last.ckpt; this run ended before its first checkpoint"
        )
        (found,) = mistakes("generate", f"run={run}", "checkpoint=best")
        assert found.endswith("best.ckpt, which scores write; write checkpoint=last")
        (found,) = mistakes("generate", f"run={run}/checkpoints/last.ckpt", "checkpoint=best")
        assert found.endswith("cannot choose from; leave checkpoint out")
        (run / "checkpoints" / "best.ckpt").touch()
        assert mistakes("generate", f"run={run}", "checkpoint=best") == []

    def test_paths_that_need_quotes(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("lr=1", "a,b"):
            path = make_run(run.with_name(name), "last")
            (found,) = mistakes("evaluate", f"run={path}")
            assert f"\"run='{path}'\"" in found
            assert mistakes("evaluate", f"run='{path}'") == []
        (found,) = mistakes("evaluate", "run=~/first")
        assert "\"run='~/first'\"" in found
        monkeypatch.setenv("HOME", str(run.parent))
        assert mistakes("evaluate", "run='~/first'") == []


@pytest.mark.parametrize(
    ("script", "override", "message"),
    [
        ("evaluate", "checkpoint=bset", "must be one of last, best; did you mean 'best'?"),
        ("evaluate", "device=gpu", "cuda:<number>, mps; write device=cuda"),
        ("generate", "device=cud", "cuda:<number>, mps; did you mean 'cuda'?"),
        ("evaluate", "device=cuda", "no GPU is visible here; write device=cpu or device=auto"),
        ("generate", "device=mps", "device=mps: there is no Apple GPU here"),
        ("evaluate", "threads=0", "threads=0: must be a whole number of at least 1, or null"),
        *(("generate", word, ELSEWHERE) for word in ("model=dcgan", "loss.n_critic=5")),
        *(("evaluate", word, ELSEWHERE) for word in ("data=mnist", "experiment=x", "dry_run=true")),
        ("generate", "chekpoint=last", "unknown setting; did you mean 'checkpoint'?"),
        ("evaluate", "hydra.mode=MULTIRUN", "evaluate.py runs once; "),
        ("evaluate", "metrics=none", "there would be nothing to do; write metrics=full"),
        ("evaluate", "metrics=full,paper", "several values; write one of them"),
        ("evaluate", "metrics.every_n_steps=5", "is for scores while training; leave it out"),
        ("evaluate", "metrics.when=always", "is for scores while training; leave it out"),
        ("evaluate", "metrics.num_fake=0", "must be a whole number of at least 1, or null"),
        ("evaluate", "metrics.nmu_fake=3", "did you mean 'num_fake'?"),
        ("evaluate", "data.batch_size=3", "unknown setting. Allowed: download, root"),
        ("evaluate", "data.download=3", "data.download=3: must be true or false, or null"),
        ("evaluate", "paths.log_dir=x", "paths.log_dir=x: unknown setting. Allowed: cache_dir"),
        ("evaluate", "protocol=no.json", "no such file; write protocol=<run folder>/scores.json"),
        ("evaluate", "seed=1", ELSEWHERE),
        ("generate", "n=0", "n=0: must be a whole number of at least 1"),
        ("generate", "n=1,2", "generate.py runs once; call it again for another run"),
        ("generate", "seed=4294967296", "must be a whole number from 0 to 4294967295"),
        ("generate", "weights=emma", "must be one of ema, raw; did you mean 'ema'?"),
        ("generate", "walk=yes", "walk=yes: must be true or false"),
        ("generate", "frames=5", "frames=5: does nothing without walk=true"),
        ("generate", "npz=1", "npz=1: must be true or false"),
        ("generate", "metrics=full", ELSEWHERE),
        ("generate", "output={run}/config.yaml", "is a file; write output=<folder>"),
    ],
)
def test_refusals(
    script: str, override: str, message: str, run: Path, gpus: Callable[[int], None]
) -> None:
    gpus(0)
    (found,) = mistakes(script, f"run={run}", override.format(run=run))
    assert message in found


@pytest.mark.parametrize(
    ("script", "overrides"),
    [
        ("evaluate", "metrics=paper"),
        ("evaluate", "metrics/features=inception metrics.num_fake=100 metrics.reference=train"),
        ("evaluate", "data.root=elsewhere data.download=false paths.cache_dir=here"),
        ("evaluate", "device=cpu threads=2 checkpoint=last"),
        ("generate", "n=16 seed=7 weights=raw npz=true walk=true frames=5 output=x"),
    ],
)
def test_right_overrides(script: str, overrides: str, run: Path) -> None:
    assert mistakes(script, f"run={run}", *overrides.split()) == []


def test_devices_that_are_here(
    run: Path, gpus: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(2)
    for device in ("auto", "cpu", "cuda", "cuda:1"):
        assert mistakes("evaluate", f"run={run}", f"device={device}") == []
    (found,) = mistakes("evaluate", f"run={run}", "device=cuda:2")
    assert found.startswith("device=cuda:2: 2 GPUs are visible here")
    monkeypatch.setattr(hardware, "has_mps", lambda: True)
    assert mistakes("evaluate", f"run={run}", "device=mps") == []


def test_several_runs(run: Path) -> None:
    second = make_run(run.with_name("second"), "last")
    assert mistakes("evaluate", f"run=[{run},{second}]") == []
    (found,) = mistakes("evaluate", f"run=[{run},no/x]")
    assert found == f"run=[{run},no/x]: no/x: there is no such folder or file"
    (found,) = mistakes("evaluate", f"run=[{run},{run}]")
    assert found.endswith("names a run twice")
    assert mistakes("evaluate", "run=[]") == ["run=[]: must name a run; write run=<run folder>"]
    (found,) = mistakes("evaluate", f"run={run},{second}")
    assert "evaluate.py runs once; write run=[<run>,<run>] to compare runs" in found
    assert mistakes("generate", f"run=[{run}]") == [f"run=[{run}]: must be text"]


def test_a_protocol_decides_how_to_score(run: Path, tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text("{}")
    overrides = [f"run={run}", f"protocol={tmp_path / 'scores.json'}", "data.root=elsewhere"]
    assert mistakes("evaluate", *overrides) == []
    found = mistakes("evaluate", *overrides, "metrics=paper", "metrics.coverage_k=3", "device=cpu")
    assert len(found) == 3
    assert all(text.endswith("is decided by protocol; leave one of them out") for text in found)


def test_every_problem_at_once() -> None:
    found = mistakes("evaluate", "run=no/x", "modle=x", "metrics.splits=0", "threads=-1")
    assert len(found) == 4


def test_a_notebook_may_leave_metrics_out() -> None:
    cfg = compose_main("train")
    for nothing in (None, {}):
        OmegaConf.update(cfg, "metrics", nothing, merge=False)
        assert find_problems(cfg) == []
    OmegaConf.update(cfg, "metrics", 3, merge=False)
    (problem,) = find_problems(cfg)
    assert problem.text == "metrics=3: must be a group of settings"
