"""Whole runs: every choice trains, and the run folder tells the truth."""

from __future__ import annotations

import json
import math
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from test_readme import commands as readme_commands
from training import (
    LOSSES,
    MODELS,
    ROOT,
    Compose,
    colour_folder,
    command,
    interruptible,
    rows,
    run_folder,
    short,
)

from forger.app.run.load import load_run
from forger.app.run.train import train
from forger.errors import ConfigError, DataError


@pytest.mark.parametrize("data", ["mnist_sample", "image_folder"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", MODELS)
def test_every_model_and_loss_trains_on_grey_and_colour(
    model: str, loss: str, data: str, composed: Compose, tmp_path: Path
) -> None:
    words = [f"model={model}", f"loss={loss}", f"data={data}"]
    if data == "image_folder":
        words += [f"data.root={colour_folder(tmp_path / 'images')}", "data.image_size=32"]
        words += ["data.batch_size=4"]
    metrics = train(composed(*short(tmp_path, *words)))
    assert all(math.isfinite(value) for value in metrics.values())
    assert {"train/loss_g", "train/loss_d"} <= metrics.keys()


@pytest.mark.parametrize("group", ["optimizer", "schedule"])
def test_every_optimizer_and_schedule_trains(group: str, composed: Compose, tmp_path: Path) -> None:
    for path in sorted((ROOT / "configs" / group).glob("*.yaml")):
        metrics = train(composed(*short(tmp_path, f"{group}={path.stem}")))
        assert math.isfinite(metrics["train/loss_g"]), path.stem


LONG = re.compile("(data|experiment|logger|init_from|compile)=|^-m")
SETTINGS = [
    line for script, line in readme_commands() if script == "train" and not LONG.search(line)
]


@pytest.mark.parametrize("line", SETTINGS)
def test_every_setting_of_the_readme_trains(line: str, composed: Compose, tmp_path: Path) -> None:
    metrics = train(composed(*short(tmp_path, *line.split(), "trainer.max_steps=2")))
    assert metrics == {} if "dry_run" in line else math.isfinite(metrics["train/loss_g"])


def test_whole_numbers_do_for_betas(composed: Compose, tmp_path: Path) -> None:
    metrics = train(composed(*short(tmp_path, "optimizer.betas=[0,0.9]", "optimizer.lr=1")))
    assert metrics["train/lr_d"] == 1.0


@pytest.mark.parametrize("debug", ["smoke", "overfit", "profiler"])
def test_debug_configs_train(debug: str, composed: Compose, tmp_path: Path) -> None:
    words = short(tmp_path, f"debug={debug}", "data.batch_size=64")
    if debug == "smoke":
        words.remove("trainer.max_steps=2")
    train(composed(*words))
    run = run_folder(tmp_path)
    assert run.parent.name == "debug"
    assert (run / "fit-profile.txt").is_file() == (debug == "profiler")
    assert json.loads((run / "status.json").read_text())["iteration"] == 2


EXPERIMENTS = sorted(path.stem for path in (ROOT / "configs" / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_trains_when_cut_short(
    experiment: str, composed: Compose, tmp_path: Path
) -> None:
    """On other data, since the real is a download; the rest is the recipe's own."""
    words = [f"experiment={experiment}", "trainer.max_steps=1", "trainer=cpu"]
    words += [f"paths.log_dir={tmp_path / 'logs'}", f"paths.cache_dir={tmp_path / 'cache'}"]
    if "cifar" in experiment:
        images = colour_folder(tmp_path / "images", classes="abcdef")
        words += ["data=image_folder", f"data.root={images}", "data.image_size=32"]
    else:
        words += ["data=mnist_sample"]
    train(composed(*words))
    run = run_folder(tmp_path)
    assert run.parent.name == experiment
    header = (ROOT / "configs" / "experiment" / f"{experiment}.yaml").read_text()
    assert f"python train.py experiment={experiment}" in header


def test_run_folder_records_what_was_run(composed: Compose, tmp_path: Path) -> None:
    train(composed(*short(tmp_path, "name=kept", "loss=hinge", "seed=7", steps=5)))
    run = run_folder(tmp_path)
    assert run.parent == tmp_path / "logs" / "kept"
    assert {path.name for path in run.iterdir()} == {
        ".lock",
        "config.yaml",
        "overrides.yaml",
        "environment.json",
        "status.json",
        "metrics.csv",
        "curves.png",
        "samples",
        "checkpoints",
    }
    config = OmegaConf.load(run / "config.yaml")
    assert config.loss._target_ == "forger.losses.Hinge"
    assert config.seed == 7
    environment = json.loads((run / "environment.json").read_text())
    assert environment["seed"] == 7
    assert environment["packages"]["torch"] == torch.__version__.split("+")[0]
    assert set(environment["git"]) == {"commit", "dirty"}
    status = json.loads((run / "status.json").read_text())
    assert (status["status"], status["reason"], status["iteration"]) == ("finished", None, 5)
    assert (run / "samples" / "000005_ema.png").is_file()


def test_the_count_agrees_everywhere(composed: Compose, tmp_path: Path) -> None:
    words = short(
        tmp_path, "loss=hinge", "loss.n_critic=3", "trainer.log_every_n_steps=4", steps=10
    )
    train(composed(*short(tmp_path, *words, steps=10)))
    run = run_folder(tmp_path)
    steps = [int(row["step"]) for row in rows(run)]
    assert steps == [4, 8, 10]
    assert [float(row["train/images_seen"]) for row in rows(run)] == [s * 3 * 8 for s in steps]
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 10
    assert checkpoint["images_seen"] == 240
    assert (run / "samples" / "000010_ema.png").is_file()


def test_an_epoch_limit_and_a_step_limit(composed: Compose, tmp_path: Path) -> None:
    """4,500 images in batches of 900 are five iterations an epoch; the first limit ends the run."""
    words = short(tmp_path, "data.batch_size=900", "trainer.max_epochs=2", steps=-1)
    train(composed(*words))
    assert json.loads((run_folder(tmp_path) / "status.json").read_text())["iteration"] == 10


def last_weights(folder: Path) -> dict[str, torch.Tensor]:
    path = run_folder(folder) / "checkpoints" / "last.ckpt"
    weights: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return weights


@pytest.mark.parametrize("seed", ["0", "null"])
def test_the_seed_is_recorded_and_repeats_the_bits(
    seed: str, composed: Compose, tmp_path: Path
) -> None:
    train(composed(*short(tmp_path / "first", f"seed={seed}", "data.flip=true")))
    used = json.loads((run_folder(tmp_path / "first") / "environment.json").read_text())["seed"]
    assert used == 0 if seed == "0" else 0 <= used < 2**32
    train(composed(*short(tmp_path / "again", f"seed={used}", "data.flip=true")))
    first, again = last_weights(tmp_path / "first"), last_weights(tmp_path / "again")
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    train(composed(*short(tmp_path / "other", f"seed={(used + 1) % 2**32}")))
    other = last_weights(tmp_path / "other")
    assert not torch.equal(other["generator.layers.0.weight"], first["generator.layers.0.weight"])


def test_two_drawn_seeds_differ(composed: Compose, tmp_path: Path) -> None:
    seeds = set()
    for name in ("a", "b"):
        train(composed(*short(tmp_path / name, "seed=null", steps=1)))
        config = OmegaConf.load(run_folder(tmp_path / name) / "config.yaml")
        seeds.add(config.seed)
    assert len(seeds) == 2


def test_a_run_is_loaded_back(composed: Compose, tmp_path: Path) -> None:
    train(composed(*short(tmp_path, "model=dcgan", "loss=wgan_gp")))
    gan = load_run(run_folder(tmp_path)).gan
    weights = last_weights(tmp_path)
    assert all(torch.equal(value, weights[name]) for name, value in gan.state_dict().items())
    images = gan(torch.randn(3, gan.generator.latent_dim))
    assert images.shape == (3, 1, 28, 28)
    assert gan.discriminator.norm == "layer"


def test_a_failed_run_says_so(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*arguments: object) -> None:
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr("forger.callbacks.SampleGrid.on_train_batch_end", explode)
    with pytest.raises(RuntimeError, match="on fire"):
        train(composed(*short(tmp_path)))
    status = json.loads((run_folder(tmp_path) / "status.json").read_text())
    assert status["status"] == "failed"
    assert status["reason"] == "RuntimeError: the disk is on fire"


def test_dry_run_prints_the_plan_and_writes_no_run(
    composed: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    words = short(tmp_path, "model=dcgan", "loss=wgan_gp", "dry_run=true")
    assert train(composed(*words)) == {}
    assert not (tmp_path / "logs").exists()
    plan = caplog.text
    for part in ("759,680 parameters", "norm layer", "5 D updates per G update", "4,500 training"):
        assert part in plan
    assert "LayerNorm in D: the loss penalises gradients per sample" in plan


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["model=dcgan", "data.image_size=33"], ConfigError, "data.image_size=28|32|40"),
        (["model=vanilla", "model.discriminator.norm=instance"], ConfigError, "MLP has no pixels"),
        (
            ["model=dcgan", "loss=wgan_gp", "model.discriminator.norm=batch"],
            ConfigError,
            "norm=batch: this loss penalises gradients",
        ),
        (["loss=r3gan", "loss.r1_gamma=1"], ConfigError, "r3gan sets both by loss.gamma"),
        (["data.batch_size=5000"], ConfigError, "data.batch_size=5000"),
        (["loss=wgan_gp", "data.batch_size=1000"], ConfigError, "one iteration takes 5 batches"),
        (["data=mnist", "data.download=false"], DataError, "data=mnist_sample"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    words: list[str], error: type[Exception], message: str, composed: Compose, tmp_path: Path
) -> None:
    with pytest.raises(error) as caught:
        train(composed(*short(tmp_path, *words, f"paths.data_dir={tmp_path / 'none'}")))
    assert message in str(caught.value)
    assert not list((tmp_path / "logs").rglob("status.json"))


def test_secrets_are_not_written(composed: Compose, tmp_path: Path) -> None:
    from forger.secrets import without_secrets

    kept = without_secrets({"a": [{"api_key": "x"}], "token": None, "password": "y", "seed": 0})
    assert kept == {"a": [{"api_key": "***"}], "token": None, "password": "***", "seed": 0}


@pytest.mark.parametrize(
    "model",
    [m if m == "dcgan" else pytest.param(m, marks=pytest.mark.slow) for m in MODELS],
)
def test_two_processes_really_train(model: str, tmp_path: Path) -> None:
    loss = {"vanilla": "non_saturating", "dcgan": "wgan_gp"}.get(model, "hinge")
    words = short(tmp_path, f"model={model}", f"loss={loss}", "trainer=ddp_cpu", steps=3)
    done = command(*words)
    assert done.returncode == 0, done.stderr
    run = run_folder(tmp_path)
    assert json.loads((run / "status.json").read_text())["status"] == "finished"
    per_iteration = 8 * (5 if loss == "wgan_gp" else 1)
    assert [float(r["train/images_seen"]) for r in rows(run)] == [
        per_iteration * step for step in (1, 2, 3)
    ]
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("data", ["mnist_sample", "image_folder"])
def test_every_model_and_loss_trains_in_two_processes(
    model: str, loss: str, data: str, tmp_path: Path
) -> None:
    words = [f"model={model}", f"loss={loss}", f"data={data}", "trainer=ddp_cpu"]
    if data == "image_folder":
        words += [f"data.root={colour_folder(tmp_path / 'images')}", "data.image_size=32"]
        words += ["data.batch_size=4"]
    done = command(*short(tmp_path, *words))
    assert done.returncode == 0, done.stderr
    assert [int(row["step"]) for row in rows(run_folder(tmp_path))] == [1, 2]


def test_dry_run_leaves_no_folder(tmp_path: Path) -> None:
    done = command(*short(tmp_path, "dry_run=true", "trainer=ddp_cpu", "model=dcgan"))
    assert done.returncode == 0, done.stderr
    assert "cpu x 2" in done.stdout
    assert "BatchNorm's statistics stay per process" in " ".join(done.stdout.split())
    assert [
        line for line in done.stdout.splitlines() if len(line) > 80 and "/logs/" not in line
    ] == []
    assert not [path for path in (tmp_path / "logs").rglob("*") if path.is_file()]


def test_ctrl_c_is_recorded_and_told_by_the_exit_code(tmp_path: Path) -> None:
    words = short(tmp_path, "trainer.threads=1", steps=100_000)
    with interruptible(str(ROOT / "train.py"), *words) as process:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "logs").rglob("metrics.csv")) and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    status = json.loads((run_folder(tmp_path) / "status.json").read_text())
    assert (status["status"], status["reason"]) == ("interrupted", "Ctrl-C")
    assert status["iteration"] > 0


def test_environment_file_is_read(tmp_path: Path) -> None:
    """`.env` beside train.py reaches the run; what the environment already holds wins."""
    for name in ("train.py", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".env").write_text("FORGER_TEST_NAME=from_file\n")
    words = ["--cfg", "job", "--resolve", "name=${oc.env:FORGER_TEST_NAME}"]
    for environment, expected in (({}, "from_file"), ({"FORGER_TEST_NAME": "outer"}, "outer")):
        done = command(*words, environment=environment, script=tmp_path / "train.py")
        assert f"name: {expected}\n" in done.stdout, done.stderr
