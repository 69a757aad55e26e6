"""`metrics`, evaluate.py and generate.py are checked as strictly as training, without torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from forger import hardware
from forger.app.config.check import check, find_problems
from forger.app.config.command import Command
from forger.app.config.compose import find_mistakes
from forger.errors import ConfigError

CONFIGS = Path(__file__).parents[3] / "configs"


def mistakes(script: str, *words: str, multirun: bool = False) -> list[str]:
    return find_mistakes(Command(CONFIGS, script, words, multirun, script=script))


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


def compose_main(name: str, *words: str) -> Any:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(name, list(words))


class TestMetrics:
    @pytest.mark.parametrize(
        ("word", "expected"),
        [
            ("metrics=auto", {"when": "ready", "num_fake": 2000, "reference": "test"}),
            ("metrics=quick", {"when": "always", "num_fake": 2000, "reference": "test"}),
            ("metrics=full", {"when": "always", "num_fake": None, "reference": "test"}),
            ("metrics=paper", {"every_n_steps": 10000, "num_fake": 50000, "reference": "train"}),
        ],
    )
    def test_what_each_word_means(self, word: str, expected: dict[str, Any]) -> None:
        metrics = compose_main("train", word).metrics
        assert {key: metrics[key] for key in expected} == expected
        kind = "Inception" if word == "metrics=paper" else "Classifier"
        assert metrics.features._target_.endswith(kind)

    def test_none_is_nothing(self) -> None:
        assert compose_main("train", "metrics=none").metrics == {}
        assert mistakes("train", "metrics=none") == []

    def test_train_scores_by_itself_and_evaluate_in_full(self) -> None:
        assert compose_main("train").metrics.when == "ready"
        metrics = compose_main("evaluate").metrics
        assert (metrics.when, metrics.every_n_steps, metrics.num_fake) == (None, None, None)

    @pytest.mark.parametrize(
        ("word", "message"),
        [
            ("metrics=autto", "metrics=autto: no such choice; did you mean 'auto'? Allowed: auto,"),
            ("metrics.when=often", "metrics.when=often: must be one of always, ready"),
            ("metrics.every_n_steps=0", "must be a whole number of at least 1"),
            ("metrics.num_fake=1e4", "must be a whole number of at least 1, or null; write 10000"),
            ("metrics.precision_k=2000", "images to score (metrics.num_fake), 2,000; write"),
            (
                "metrics.neighbour_images=4",
                "metrics.coverage_k=5: must be below the number of feat",
            ),
            (
                "metrics.num_real=4",
                "to compare with (metrics.num_real), 4; write metrics.coverage_",
            ),
            ("metrics.num_fake=8", "must be at most the number of images to score (metrics.num_fa"),
            (
                "metrics.kid_subset_size=1",
                "metrics.kid_subset_size=1: must be a whole number of at least 2",
            ),
            ("metrics.reference=tset", "must be one of test, train; did you mean 'test'?"),
            ("metrics.weights=rwa", "must be one of ema, raw; did you mean 'raw'?"),
            (
                "metrics.seed=4294967296",
                "metrics.seed=4294967296: must be a whole number from 0 to 4294967295",
            ),
            ("metrics.min_accuracy=99", "must be a number from 0 to 1, or null"),
            ("metrics.nmu_fake=3", "metrics.nmu_fake=3: unknown setting; did you mean 'num_fake'?"),
            ("metrics.features.min_acuracy=1", "did you mean 'min_accuracy'?"),
            ("metrics.inception_weights=/x", "is used with metrics/features=inception only"),
        ],
    )
    def test_refusals(self, word: str, message: str) -> None:
        (found,) = mistakes("train", word)
        assert message in found

    def test_a_bound_for_a_classifier_that_is_not_used(self) -> None:
        (found,) = mistakes("train", "metrics/features=inception", "metrics.min_accuracy=0.9")
        assert found == (
            "metrics.min_accuracy=0.9: is used with metrics/features=classifier only; leave it out"
        )
        assert mistakes("train", "metrics.min_accuracy=0.9") == []


STOPPING = "callbacks=early_stopping"


class TestWaitingForAScore:
    @pytest.mark.parametrize(
        ("word", "message"),
        [
            ("metric=train/loss", "no such metric is logged; did you mean 'train/loss_d'?"),
            ("patience=0", "must be a whole number of at least 1"),
            ("mode=low", "must be one of min, max"),
        ],
    )
    def test_its_settings(self, word: str, message: str) -> None:
        (found,) = mistakes("train", STOPPING, f"callbacks.early_stopping.{word}")
        assert found.startswith(f"callbacks.early_stopping.{word}: ")
        assert message in found

    @pytest.mark.parametrize(
        "home", ["lightning.pytorch.callbacks", "lightning.pytorch.callbacks.early_stopping"]
    )
    def test_lightnings_own_looks_when_there_is_no_score(self, home: str) -> None:
        node = f"{{_target_: {home}.EarlyStopping, monitor: val/classifier_fid}}"
        (found,) = mistakes("train", f"+callbacks.stop={node}")
        assert "write callbacks=early_stopping" in found

    def test_lightnings_checkpoints_by_a_score(self) -> None:
        node = "{_target_: lightning.pytorch.callbacks.ModelCheckpoint, monitor: %s}"
        (found,) = mistakes("train", f"+callbacks.keep={node % 'val/classifier_fid'}")
        assert "leave this callback out: checkpoints/best.ckpt is kept by the FID" in found
        (found,) = mistakes("train", f"+callbacks.keep={node % 'val_loss'}")
        assert found.startswith("callbacks.keep.monitor=val_loss: no such metric is logged")
        assert mistakes("train", f"+callbacks.keep={node % 'train/loss_g'}") == []


@pytest.mark.parametrize("script", ["evaluate", "generate"])
class TestRun:
    def test_a_run_folder_or_a_checkpoint(self, script: str, run: Path) -> None:
        assert mistakes(script, f"run={run}") == []
        assert mistakes(script, f"run={run / 'checkpoints' / 'last.ckpt'}") == []

    def test_none_at_all(self, script: str) -> None:
        assert mistakes(script) == ["run: is needed; write run=<run folder>"]
        assert mistakes(script, "run=") == ["run='': must name a run; write run=<run folder>"]

    def test_one_that_is_not_there(self, script: str, run: Path) -> None:
        assert mistakes(script, "run=no/x") == ["run=no/x: there is no such folder or file"]
        (found,) = mistakes(script, f"run={run.with_name('frist')}")
        assert found.endswith("there is no such folder or file; did you mean 'first'?")

    def test_a_folder_beside_the_one_that_is_meant(self, script: str, run: Path) -> None:
        (found,) = mistakes(script, f"run={run.parent}")
        assert found.endswith(f"is not a run folder, but holds 1; the newest is run={run}")
        (found,) = mistakes(script, f"run={run / 'checkpoints'}")
        assert found.endswith(f"is not a run folder; write run={run}")
        (found,) = mistakes(script, f"run={CONFIGS}")
        assert found.endswith("is not a run folder; it has no checkpoints/last.ckpt")

    def test_a_run_without_the_checkpoint(self, script: str, run: Path, tmp_path: Path) -> None:
        (found,) = mistakes(script, f"run={make_run(tmp_path / 'short')}")
        assert found.endswith(
            "has no checkpoints/last.ckpt; this run ended before its first checkpoint"
        )
        (found,) = mistakes(script, f"run={run}", "checkpoint=best")
        assert found.endswith(
            "has no checkpoints/best.ckpt, which scores write; write checkpoint=last"
        )
        (run / "checkpoints" / "best.ckpt").touch()
        assert mistakes(script, f"run={run}", "checkpoint=best") == []
        (found,) = mistakes(script, f"run={run}", "checkpoint=bset")
        assert found == "checkpoint=bset: must be one of last, best; did you mean 'best'?"

    def test_files(self, script: str, run: Path) -> None:
        (found,) = mistakes(script, f"run={run / 'config.yaml'}")
        assert "is not a checkpoint; write run=<run folder> or run=<file>.ckpt" in found
        (found,) = mistakes(script, f"run={run / 'checkpoints/last.ckpt'}", "checkpoint=best")
        assert found.endswith("cannot choose from; leave checkpoint out")

    def test_paths_that_need_quotes(self, script: str, run: Path) -> None:
        for name in ("lr=1", "a,b"):
            path = make_run(run.with_name(name), "last")
            (found,) = mistakes(script, f"run={path}")
            assert f"\"run='{path}'\"" in found
            assert mistakes(script, f"run='{path}'") == []

    def test_the_home_folder(self, script: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (found,) = mistakes(script, "run=~/first")
        assert "\"run='~/first'\"" in found
        monkeypatch.setenv("HOME", str(run.parent))
        assert mistakes(script, "run='~/first'") == []

    def test_a_path_alone(self, script: str, run: Path) -> None:
        assert f"{run}: is not a setting; write run={run}" in mistakes(script, str(run))

    @pytest.mark.parametrize(
        ("word", "message"),
        [
            ("device=gpu", "cuda:<number>, mps; write device=cuda"),
            ("device=cud", "cuda:<number>, mps; did you mean 'cuda'?"),
            ("device=cuda", "device=cuda: no GPU is visible here; write device=cpu or device=auto"),
            ("device=mps", "device=mps: there is no Apple GPU here"),
            ("threads=0", "threads=0: must be a whole number of at least 1, or null"),
            ("model=dcgan", "model=dcgan: is for train.py; the run has its own on record"),
            ("loss.n_critic=5", "is for train.py; the run has its own on record"),
            ("data=mnist", "is for train.py; the run has its own on record"),
            ("experiment=quickstart", "is for train.py; the run has its own on record"),
            ("dry_run=true", "is for train.py; the run has its own on record"),
            ("chekpoint=last", "unknown setting; did you mean 'checkpoint'?"),
            ("hydra.mode=MULTIRUN", "py runs once; "),
        ],
    )
    def test_settings(
        self, script: str, word: str, message: str, run: Path, gpus: Callable[[int], None]
    ) -> None:
        gpus(0)
        (found,) = mistakes(script, f"run={run}", word)
        assert message in found

    def test_devices_that_are_here(
        self, script: str, run: Path, gpus: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gpus(2)
        for device in ("auto", "cpu", "cuda", "cuda:1"):
            assert mistakes(script, f"run={run}", f"device={device}") == []
        (found,) = mistakes(script, f"run={run}", "device=cuda:2")
        assert found.startswith("device=cuda:2: 2 GPUs are visible here")
        monkeypatch.setattr(hardware, "has_mps", lambda: True)
        assert mistakes(script, f"run={run}", "device=mps") == []

    def test_no_sweeps(self, script: str, run: Path) -> None:
        (found,) = mistakes(script, f"run={run}", "checkpoint=last,best", multirun=True)
        assert found.startswith(f"-m: {script}.py runs once; ")

    def test_the_job_checks_too(self, script: str, run: Path) -> None:
        check(compose_main(script, f"run={run}"), script)
        with pytest.raises(ConfigError, match="run=no/x: there is no such folder or file"):
            check(compose_main(script, "run=no/x"), script)


class TestEvaluate:
    def test_several_runs(self, run: Path) -> None:
        second = make_run(run.with_name("second"), "last")
        assert mistakes("evaluate", f"run=[{run},{second}]") == []
        (found,) = mistakes("evaluate", f"run=[{run},no/x]")
        assert found == f"run=[{run},no/x]: no/x: there is no such folder or file"
        (found,) = mistakes("evaluate", f"run=[{run},{run}]")
        assert found.endswith("names a run twice")
        assert mistakes("evaluate", "run=[]") == ["run=[]: must name a run; write run=<run folder>"]
        (found,) = mistakes("evaluate", f"run={run},{second}")
        assert "evaluate.py runs once; write run=[<run>,<run>] to compare runs" in found

    @pytest.mark.parametrize(
        "words",
        [
            ["metrics=paper"],
            ["metrics/features=inception"],
            ["metrics.num_fake=100", "metrics.reference=train"],
            ["data.root=elsewhere", "data.download=false", "paths.cache_dir=here"],
            ["device=cpu", "threads=2", "checkpoint=last"],
        ],
    )
    def test_right_words(self, words: list[str], run: Path) -> None:
        assert mistakes("evaluate", f"run={run}", *words) == []

    @pytest.mark.parametrize(
        ("word", "message"),
        [
            ("metrics=none", "metrics=none: there would be nothing to do; write metrics=full"),
            ("metrics=full,paper", "metrics=full,paper: several values; write one of them"),
            ("metrics.every_n_steps=5", "is for scores while training; leave it out"),
            ("metrics.when=always", "is for scores while training; leave it out"),
            ("metrics.num_fake=0", "must be a whole number of at least 1, or null"),
            ("metrics.nmu_fake=3", "did you mean 'num_fake'?"),
            ("data.batch_size=3", "data.batch_size=3: unknown setting. Allowed: download, root"),
            ("data.download=3", "data.download=3: must be true or false, or null"),
            ("paths.log_dir=x", "paths.log_dir=x: unknown setting. Allowed: cache_dir"),
            ("protocol=no.json", "there is no such file; write protocol=<run folder>/scores.json"),
            ("seed=1", "seed=1: is for train.py; the run has its own on record"),
        ],
    )
    def test_refusals(self, word: str, message: str, run: Path) -> None:
        (found,) = mistakes("evaluate", f"run={run}", word)
        assert message in found

    def test_a_protocol_decides_how_to_score(self, run: Path, tmp_path: Path) -> None:
        (tmp_path / "scores.json").write_text("{}")
        words = [f"run={run}", f"protocol={tmp_path / 'scores.json'}", "data.root=elsewhere"]
        assert mistakes("evaluate", *words) == []
        found = mistakes("evaluate", *words, "metrics=paper", "metrics.coverage_k=3", "device=cpu")
        assert len(found) == 3
        assert all(text.endswith("is decided by protocol; leave one of them out") for text in found)

    def test_every_problem_at_once(self) -> None:
        assert (
            len(mistakes("evaluate", "run=no/x", "modle=x", "metrics.splits=0", "threads=-1")) == 4
        )


class TestGenerate:
    def test_right_words(self, run: Path) -> None:
        words = ["n=16", "seed=7", "weights=raw", "npz=true", "walk=true", "frames=5", "output=x"]
        assert mistakes("generate", f"run={run}", *words) == []

    @pytest.mark.parametrize(
        ("word", "message"),
        [
            ("n=0", "n=0: must be a whole number of at least 1"),
            ("n=1,2", "generate.py runs once; call it again for another run"),
            ("seed=4294967296", "seed=4294967296: must be a whole number from 0 to 4294967295"),
            ("weights=emma", "must be one of ema, raw; did you mean 'ema'?"),
            ("walk=yes", "walk=yes: must be true or false"),
            ("frames=5", "frames=5: does nothing without walk=true"),
            ("npz=1", "npz=1: must be true or false"),
            ("metrics=full", "metrics=full: is for train.py; the run has its own on record"),
        ],
    )
    def test_refusals(self, word: str, message: str, run: Path) -> None:
        (found,) = mistakes("generate", f"run={run}", word)
        assert message in found

    def test_one_run_only(self, run: Path) -> None:
        (found,) = mistakes("generate", f"run=[{run}]")
        assert found == f"run=[{run}]: must be text"

    def test_an_output_that_is_a_file(self, run: Path) -> None:
        (found,) = mistakes("generate", f"run={run}", f"output={run / 'config.yaml'}")
        assert found.endswith("config.yaml: is a file; write output=<folder>")


def test_a_notebook_may_leave_metrics_out() -> None:
    cfg = compose_main("train")
    for nothing in (None, {}):
        OmegaConf.update(cfg, "metrics", nothing, merge=False)
        assert find_problems(cfg) == []
    OmegaConf.update(cfg, "metrics", 3, merge=False)
    assert [problem.text for problem in find_problems(cfg)] == [
        "metrics=3: must be a group of settings"
    ]
