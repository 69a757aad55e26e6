"""Settings that are fine alone and senseless together, or on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from disks import read_only
from omegaconf import DictConfig
from training import ROOT, rows, run_folder, short

from forger.app.config.check import find_problems
from forger.app.config.rules import LOGGED
from forger.app.run.train import train
from forger.score_names import RATES, RELATIVE

Compose = Callable[..., DictConfig]
Gpus = Callable[[int], None]
Find = Callable[..., list[str]]


@pytest.fixture
def found(composed: Compose) -> Find:
    """Composes a config and returns what is wrong with it."""
    return lambda *overrides: [one.text for one in find_problems(composed(*overrides))]


MINE = "+callbacks.mine={_target_:lightning.pytorch.callbacks.%s}"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("name=../elsewhere", "must name a folder below paths.log_dir"),
        ("paths.log_dir=''", "paths.log_dir='': must name a folder"),
        ("paths.cache_dir=/dev/null/x", "/dev/null is"),
        ("init_from=none", "init_from=none: there is no such folder or file"),
        ("init_from=''", "init_from='': must name a run; write init_from=<run folder>"),
        (f"init_from={ROOT / 'README.md'}", "is not a checkpoint; write init_from=<run folder> or"),
        (f"init_from={ROOT / 'docs'}", "is not a run folder; it has no checkpoints/last.ckpt"),
        ("objective=train/los_g", "no such metric is logged; did you mean 'train/loss_g'?"),
        ("callbacks=early_stopping callbacks.early_stopping.metric=train/loss", "'train/loss_d'?"),
        ("+trainer.min_steps=9 trainer.max_steps=5", "is above trainer.max_steps=5"),
        ("+trainer.limit_train_batches=3 +trainer.overfit_batches=3", "is ignored with trainer."),
        ("+trainer.benchmark=true trainer.deterministic=true", "trainer.deterministic=true void"),
        ("+trainer.use_distributed_sampler=false", "changes nothing: this data set"),
        (MINE % "BatchSizeFinder", "cannot serve two networks; write data.batch_size=<images>"),
        (MINE % "RichProgressBar", "would be a second bar; write callbacks.progress=null too"),
        (MINE % "EarlyStopping,monitor:val/fid", "write callbacks=early_stopping"),
        (MINE % "ModelCheckpoint,monitor:val/fid", "checkpoints/best.ckpt is kept by the FID"),
        (MINE % "ModelCheckpoint,monitor:val_loss", "=val_loss: no such metric is logged"),
        ("data=image_folder data.root=no/such", "there is no such folder; write data.root=<fold"),
        # this machine
        ("trainer=gpu", "no GPU is visible here; write trainer=cpu or trainer=auto"),
        ("trainer=mps", "there is no Apple GPU here"),
        ("trainer=cpu trainer.devices=[0,0]", "on the CPU it is the number of processes"),
        ("trainer=ddp_cpu trainer.devices=10000", "cores here can serve"),
        ("trainer.threads=100000", "cores here; write trainer.threads="),
        ("trainer.precision=16-mixed", "needs a GPU; write bf16-mixed or 32-true"),
        ("+trainer.sync_batchnorm=true", "torch's SyncBatchNorm refuses CPU tensors"),
        ("trainer.devices=2 trainer.strategy=single_device", "in one process, and 2 are asked for"),
        ("trainer=ddp_cpu data.batch_size=65", "is shared evenly by 2 processes; write 64 or 66"),
        ("trainer=multi_node_cpu", "torchrun --nnodes=2 --nproc-per-node=1 --node-rank=<0 to 1>"),
    ],
)
def test_refusals(overrides: str, message: str, found: Find, gpus: Gpus) -> None:
    gpus(0)
    (problem,) = found(*overrides.split(" "))
    assert message in problem


@pytest.mark.parametrize(
    "overrides",
    [
        "objective=train/penalty_r1 loss.r1_gamma=1",
        "objective=train/relative_tpr loss=r3gan",
        f"objective=mine {MINE % 'DeviceStatsMonitor'}",
        MINE % "ModelCheckpoint,monitor:train/loss_g",
        "trainer=auto",
    ],
)
def test_accepted(overrides: str, found: Find, gpus: Gpus) -> None:
    gpus(0)
    assert found(*overrides.split()) == []


@pytest.mark.parametrize(
    ("count", "overrides", "message"),
    [
        (2, "trainer=ddp trainer.devices=2", None),
        (2, "trainer=gpu trainer.devices=2", None),
        (1, "trainer.precision=16-mixed", None),
        (2, "trainer=ddp trainer.devices=4", "trainer.devices=4: 2 GPUs are visible here"),
        (1, "trainer=gpu trainer.devices=2", "1 GPU is visible here; write 1"),
        (2, "trainer=gpu trainer.devices=[2]", "trainer.devices=[2]: 2 GPUs are visible"),
        (2, "trainer=ddp trainer.devices=[0,0]", "must be different GPUs"),
        (3, "trainer=ddp", "is shared evenly by 3 processes; write 63 or 66"),
    ],
)
def test_gpus(count: int, overrides: str, message: str | None, found: Find, gpus: Gpus) -> None:
    gpus(count)
    problems = found(*overrides.split())
    assert len(problems) == (message is not None)
    assert message is None or message in problems[0]


def test_a_log_folder_that_cannot_be_written_to(found: Find, tmp_path: Path) -> None:
    with read_only(tmp_path / "disk") as folder:
        (problem,) = found(f"paths.log_dir={folder / 'logs'}")
    assert problem.startswith(f"paths.log_dir={folder / 'logs'}: {folder} cannot be written to; ")


def test_variables_of_lightning(found: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_TRAINER_MAX_EPOCHS", "3")
    assert found() == [
        "environment variable PL_TRAINER_MAX_EPOCHS: would change the Trainer unseen; unset it and"
        " write trainer.max_epochs=<value>"
    ]


def test_a_compiler_that_is_not_there(found: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    (problem,) = found("compile=true", "trainer=cpu")
    assert "there is no C++ compiler no-such-compiler here" in problem


@pytest.mark.parametrize("key", ["cache_dir", "log_dir"])
def test_no_run_writes_among_the_images(key: str, tmp_path: Path, found: Find) -> None:
    (tmp_path / "images").mkdir()
    overrides = ["data=image_folder", f"data.root={tmp_path / 'images'}"]
    (problem,) = found(*overrides, f"paths.{key}={tmp_path}/images/more/x")
    assert f"is never written to, and paths.{key}={tmp_path}/images/more/x lies" in problem
    assert found(*overrides, f"paths.{key}={tmp_path}/images2") == []


@pytest.mark.parametrize(
    ("logger", "package"), [("tensorboard", "tensorboard"), ("mlflow", "mlflow")]
)
def test_trackers_whose_package_is_missing(
    logger: str, package: str, found: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forger.app.config.rules.find_spec", lambda name: None)
    (problem,) = found(f"logger={logger}")
    assert f"needs {package}" in problem
    assert f"[{package}]" in problem


PLAIN_RATES = {f"train/{rate}" for rate in RATES}
RELATIVE_RATES = {f"train/{RELATIVE}{rate}" for rate in RATES}


@pytest.mark.parametrize(
    ("loss", "absent"), [("non_saturating", RELATIVE_RATES), ("wasserstein", PLAIN_RATES)]
)
def test_what_training_logs_is_what_may_be_waited_for(
    loss: str, absent: set[str], composed: Compose, tmp_path: Path
) -> None:
    train(composed(*short(tmp_path, f"loss={loss}", steps=1)))
    (row,) = rows(run_folder(tmp_path))
    assert {name for name in row if name.startswith("train/")} == set(LOGGED) - absent
