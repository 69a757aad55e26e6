"""Whole runs: every choice trains, and the run folder tells the truth."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from test_readme import commands as readme_commands
from training import (
    LOSSES,
    MODELS,
    NARROW,
    ROOT,
    Compose,
    captioned_images,
    choices_of,
    colour_folder,
    command,
    rows,
    run_folder,
    short,
    status_of,
    trained,
)

import forger
from forger.app.cli.log_lines import wrapped
from forger.app.run.load import load_run
from forger.app.run.train import train

DATA = ("mnist_sample", "image_folder")
PRODUCT = [(model, loss, data) for model in MODELS for loss in LOSSES for data in DATA]
# Each model with a sixth of the losses and the other way round, by turns on grey images and colour.
CHOSEN = {
    (model, loss, DATA[row % 2])
    for row, model in enumerate(MODELS)
    for column, loss in enumerate(LOSSES)
    if (row + column) % 6 == 0
}


@pytest.mark.parametrize(
    ("model", "loss", "data"),
    [pytest.param(*x, marks=() if x in CHOSEN else pytest.mark.slow) for x in PRODUCT],
)
def test_every_model_and_loss_trains_on_grey_or_colour(
    model: str, loss: str, data: str, composed: Compose, tmp_path: Path
) -> None:
    metrics = train(composed(*short(tmp_path, *choices_of(model, loss, data, tmp_path))))
    assert all(math.isfinite(value) for value in metrics.values())
    assert {"train/loss_g", "train/loss_d"} <= metrics.keys()


@pytest.mark.slow
@pytest.mark.parametrize(("model", "loss", "data"), PRODUCT)
def test_every_model_and_loss_trains_in_two_processes(
    model: str, loss: str, data: str, tmp_path: Path
) -> None:
    words = [*choices_of(model, loss, data, tmp_path), "trainer=ddp_cpu"]
    done = command(*short(tmp_path, *words))
    assert done.returncode == 0, done.stderr
    assert [int(row["step"]) for row in rows(run_folder(tmp_path))] == [1, 2]


LONG = re.compile("(data|experiment|logger|init_from|compile)=|^-m")
README = [line for script, line in readme_commands() if script == "train" and not LONG.search(line)]
FILES = [
    f"{group}={path.stem}"
    for group in ("optimizer", "schedule")
    for path in sorted((ROOT / "configs" / group).glob("*.yaml"))
]


COMPLETED = {"schedule=r3gan": ["loss.r1_gamma=1", "model.ema_half_life=1000"]}  # what it scales


@pytest.mark.parametrize("line", [*README, *FILES, "optimizer.betas=[0,0.9] optimizer.lr=1"])
def test_every_setting_trains(line: str, composed: Compose, tmp_path: Path) -> None:
    words = [*line.split(), *COMPLETED.get(line, []), "trainer.max_steps=2"]
    metrics = train(composed(*short(tmp_path, *words)))
    assert metrics == {} if "dry_run" in line else math.isfinite(metrics["train/loss_g"])


@pytest.mark.parametrize("debug", ["smoke", "overfit", "profiler"])
def test_debug_configs_train(debug: str, composed: Compose, tmp_path: Path) -> None:
    words = short(tmp_path, f"debug={debug}", "data.batch_size=64")
    if debug == "smoke":
        words.remove("trainer.max_steps=2")
    train(composed(*words))
    run = run_folder(tmp_path)
    assert run.parent.name == "debug"
    assert (run / "fit-profile.txt").is_file() == (debug == "profiler")
    assert status_of(run)["iteration"] == 2


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs" / "experiment").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_experiment_trains_when_cut_short(
    path: Path, composed: Compose, tmp_path: Path
) -> None:
    """On other data, since the real is a download, and narrow where it is for GPUs."""
    words = [f"experiment={path.stem}", "trainer.max_steps=1", "trainer=cpu", "data=mnist_sample"]
    words += [f"paths.log_dir={tmp_path / 'logs'}", f"paths.cache_dir={tmp_path / 'cache'}"]
    words += ["callbacks.curves=null", "data.batch_size=8"]
    if path.stem.startswith(("dfgan", "stackgan", "text")):
        words.remove("data=mnist_sample")
        words += ["data=captioned_folder", f"data.root={captioned_images(tmp_path / 'images')}"]
        words += ["data.image_size=16"]
    elif task := re.search(r"override /task: (\w+)", path.read_text()):  # from image to image
        sides = colour_folder(tmp_path / "images", classes="AB")
        words.remove("data=mnist_sample")
        words += [f"data={'' if task[1] == 'paired' else 'un'}paired_folder", f"data.root={sides}"]
        words += ["data.image_size=32", *["task.lambda_class=0"] * (task[1] == "refine")]
        if path.stem in ("facades", "horse2zebra"):
            words += ["model.generator.width=8", "model.discriminator.width=8"]
    elif "cifar" in path.stem:
        images = colour_folder(tmp_path / "images", classes="abcdef")
        words += ["data=image_folder", f"data.root={images}", "data.image_size=32"]
        width = ["model.generator.width=16", "model.discriminator.width=16"]
        narrow = next((words for model, words in NARROW.items() if model in path.stem), width)
        words += narrow if "dcgan" not in path.stem else []
        words.remove("data=mnist_sample")
    train(composed(*words))
    assert run_folder(tmp_path).parent.name == path.stem
    assert f"python train.py experiment={path.stem}" in path.read_text()


def test_run_folder_records_what_was_run(composed: Compose, tmp_path: Path) -> None:
    words = ["name=kept", "loss=hinge", "loss.n_critic=3", "seed=7"]
    words = short(tmp_path, *words, "trainer.log_every_n_steps=4", steps=10)
    words.remove("callbacks.curves=null")
    train(composed(*words))
    run = run_folder(tmp_path)
    assert run.parent == tmp_path / "logs" / "kept"
    assert {path.name for path in run.iterdir()} == {
        *(".lock", "config.yaml", "overrides.yaml", "environment.json", "status.json"),
        *("metrics.csv", "curves.png", "samples", "checkpoints"),
    }
    config = OmegaConf.load(run / "config.yaml")
    assert (config.loss._target_, config.seed) == ("forger.losses.Hinge", 7)
    environment = json.loads((run / "environment.json").read_text())
    assert environment["seed"] == 7
    assert environment["packages"]["torch"] == torch.__version__.split("+")[0]
    assert set(environment["git"]) == {"commit", "dirty"}
    status = status_of(run)
    assert (status["status"], status["reason"], status["iteration"]) == ("finished", None, 10)
    # the count agrees everywhere
    assert [int(row["step"]) for row in rows(run)] == [4, 8, 10]
    assert [float(row["train/images_seen"]) for row in rows(run)] == [96, 192, 240]
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert (checkpoint["global_step"], checkpoint["images_seen"]) == (10, 240)
    assert (run / "samples" / "000010_ema.png").is_file()


def test_an_epoch_limit_and_a_step_limit(tmp_path: Path) -> None:
    """4,500 images in batches of 900 are five iterations an epoch; the first limit ends the run."""
    run = trained(tmp_path, "data.batch_size=900", "trainer.max_epochs=2", steps=-1)
    assert status_of(run)["iteration"] == 10


def last_weights(run: Path) -> dict[str, torch.Tensor]:
    path = run / "checkpoints" / "last.ckpt"
    weights: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return weights


@pytest.mark.parametrize("seed", ["0", "null"])
def test_the_seed_is_recorded_and_repeats_the_bits(seed: str, tmp_path: Path) -> None:
    run = trained(tmp_path / "first", f"seed={seed}", "data.flip=true")
    used = json.loads((run / "environment.json").read_text())["seed"]
    assert OmegaConf.load(run / "config.yaml").seed == used
    assert used == 0 if seed == "0" else 0 <= used < 2**32
    first = last_weights(run)
    again = last_weights(trained(tmp_path / "again", f"seed={used}", "data.flip=true"))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    other = trained(tmp_path / "other", "seed=null")  # draws another one
    weight = "generator.layers.0.weight"
    assert not torch.equal(last_weights(other)[weight], first[weight])


def test_a_run_is_loaded_back(tmp_path: Path) -> None:
    run = trained(tmp_path, "model=dcgan", "loss=wgan_gp")
    gan, weights = load_run(run).gan, last_weights(run)
    assert all(torch.equal(value, weights[name]) for name, value in gan.state_dict().items())
    assert forger.load(run).sample(3).shape == (3, 1, 28, 28)
    assert gan.discriminator.norm == "layer"


def test_a_failed_run_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*arguments: object) -> None:
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr("forger.callbacks.SampleGrid.on_train_batch_end", explode)
    with pytest.raises(RuntimeError, match="on fire"):
        trained(tmp_path)
    status = status_of(run_folder(tmp_path))
    assert (status["status"], status["reason"]) == ("failed", "RuntimeError: the disk is on fire")


def test_a_dry_run_prints_the_plan_and_leaves_no_folder(
    composed: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    words = ["dry_run=true", "trainer=ddp_cpu", "model=dcgan", "loss=wgan_gp"]
    assert train(composed(*short(tmp_path, *words))) == {}
    plan = " ".join(" ".join(caplog.messages).split())
    for part in ("759,680 parameters", "norm layer", "5 D updates per G update", "4,500 training"):
        assert part in plan
    assert "LayerNorm in D: the loss penalises gradients per sample" in plan
    assert "cpu x 2" in plan
    assert "BatchNorm's statistics stay per process" in plan
    for message in caplog.messages:
        assert "/logs/" in message or max(map(len, wrapped(message).splitlines())) <= 80
    assert not [path for path in (tmp_path / "logs").rglob("*") if path.is_file()]


def test_environment_file_is_read(tmp_path: Path) -> None:
    """`.env` beside train.py reaches the run; what the environment already holds wins."""
    for name in ("train.py", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".env").write_text("FORGER_TEST_NAME=from_file\n")
    words = ["--cfg", "job", "--resolve", "name=${oc.env:FORGER_TEST_NAME}"]
    for environment, expected in (({}, "from_file"), ({"FORGER_TEST_NAME": "outer"}, "outer")):
        done = command(*words, environment=environment, script=tmp_path / "train.py")
        assert f"name: {expected}\n" in done.stdout, done.stderr
