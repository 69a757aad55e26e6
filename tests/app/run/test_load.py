"""Loading a run back, and what is said when that cannot work."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from composing import compose_config
from torch import nn
from training import ROOT, rows, run_folder, short

import forger
from forger.app.run.evaluate import evaluate
from forger.app.run.load import load_run, load_sampler
from forger.app.run.train import train
from forger.errors import UserError
from forger.sampling.sampler import Sampler

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("load")
    words = short(folder, "model=dcgan", "model.ema_decay=0.5", "model.prior=uniform", steps=4)
    words += ["callbacks.checkpoint.keep=all", "callbacks.checkpoint.every_n_steps=3"]
    train(compose_config("train", *words))
    return run_folder(folder)


@pytest.fixture
def changed(run: Path, tmp_path: Path) -> Callable[[Change], Path]:
    """Copies the run with another content in its checkpoint."""

    def change(how: Change) -> Path:
        shutil.copytree(run, tmp_path / "run")
        path = tmp_path / "run" / "checkpoints" / "last.ckpt"
        content = torch.load(path, weights_only=True)
        how(content)
        torch.save(content, path)
        return tmp_path / "run"

    return change


def test_a_checkpoint_that_was_kept_is_loaded_by_its_name(run: Path) -> None:
    found = [load_run(run, f"iteration_{number}") for number in (3, 4)]
    assert [one.iteration for one in found] == [3, 4]
    assert found[0].checkpoint == run / "checkpoints" / "iteration_3.ckpt"
    images = [forger.load(run, name).sample(2) for name in ("iteration_3", "iteration_4", "last")]
    assert torch.equal(images[1], images[2])
    assert not torch.equal(images[0], images[1])


def test_the_scores_of_d_see_images_as_the_last_iteration_did(tmp_path: Path) -> None:
    scores = ["metrics.num_fake=250", "metrics/features=pixels"]
    words = ["model.generator.hidden=[8]", "model.discriminator.hidden=[8]", "augment=ada"]
    words += ["augment.p=0.5", "task.instance_noise=1.0", "metrics=quick", *scores]
    for name in ("augment", "instance_noise"):
        words.append(f"+schedule.{name}._target_=forger.schedules.Linear")
    train(compose_config("train", *short(tmp_path, *words, steps=4)))
    run = run_folder(tmp_path)
    assert load_run(run).gan.task.factors == {"augment": 0.25, "instance_noise": 0.25}
    (record,) = evaluate(compose_config("evaluate", f"run={run}", "metrics=quick", *scores))
    logged = {key: value for key, value in rows(run)[-1].items() if key.startswith("val/d_")}
    assert logged
    assert {key: record["scores"][key.removeprefix("val/")] for key in logged} == {
        key: float(value) for key, value in logged.items()
    }


def test_a_folder_and_its_file_are_the_same_run(run: Path, tmp_path: Path) -> None:
    file = run / "checkpoints" / "last.ckpt"
    for loaded in (load_run(run), load_run(str(file))):
        assert (loaded.folder, loaded.checkpoint) == (run, file)
        assert (loaded.iteration, loaded.image_shape) == (4, (1, 28, 28))
        assert loaded.cfg.model.prior == "uniform"
        assert not loaded.gan.training
    assert torch.equal(forger.load(run).sample(3), forger.load(file).sample(3))
    shutil.copy(file, tmp_path / "alone.ckpt")
    assert load_run(tmp_path / "alone.ckpt").folder == tmp_path


def test_a_notebook_gets_the_averaged_generator(run: Path) -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    sampler = forger.load(run)
    assert torch.equal(torch.get_rng_state(), state)
    weights = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    first = next(name[10:] for name in weights if name.startswith("generator."))
    averaged = weights[f"ema_generator.module.{first}"]
    assert torch.equal(sampler.generator.state_dict()[first], averaged)
    assert not sampler.generator.training
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in sampler.parameters())
    assert sampler.prior == "uniform"
    raw = forger.load(run, weights="raw")
    assert torch.equal(raw.generator.state_dict()[first], weights[f"generator.{first}"])
    assert not torch.equal(raw.sample(2), sampler.sample(2))
    assert torch.equal(sampler.sample(4, seed=1), forger.load(run).sample(4, seed=1))


def test_the_generator_alone_is_that_of_the_whole_run(run: Path) -> None:
    whole = load_run(run)
    generators = {"ema": whole.gan.ema_generator.module, "raw": whole.gan.generator}
    for weights, generator in generators.items():
        origin, sampler = load_sampler(run, weights=weights)
        assert (origin.checkpoint, origin.iteration) == (whole.checkpoint, whole.iteration)
        assert torch.equal(sampler.sample(3), Sampler(generator, "uniform").sample(3))


def test_what_is_not_of_the_generator_need_not_fit(changed: Callable[[Change], Path]) -> None:
    def without_discriminator(content: dict[str, Any]) -> None:
        own = content["state_dict"]
        content["state_dict"] = {k: v for k, v in own.items() if not k.startswith("discriminator.")}

    run = changed(without_discriminator)
    assert len(forger.load(run).sample(2)) == 2
    with pytest.raises(UserError, match="does not fit this version"):
        load_run(run)


def test_sampling_needs_no_trainer(run: Path) -> None:
    """Its import takes longer than most samplings."""
    code = f"""
import sys, forger, forger.app.run.generate
forger.load({str(run)!r}).sample(1)
print(sorted({{"lightning", "torchvision", "torchmetrics", "matplotlib"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"checkpoint": "best"}, "write checkpoint=last"),
        (
            {"checkpoint": "first"},
            "no checkpoints/first.ckpt. Allowed: iteration_3, iteration_4, last, previous",
        ),
        ({"weights": "average"}, "weights=average: must be one of ema, raw"),
        ({"run": "none.ckpt"}, "run=none.ckpt: there is no such folder or file"),
        ({"run": "configs"}, "run=configs: is not a run folder"),
    ],
)
def test_senseless_choices(
    run: Path, settings: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError) as caught:
        forger.load(**({"run": run} | settings))
    assert message in str(caught.value)


def half(checkpoint: Path, target: Path) -> None:
    content = checkpoint.read_bytes()
    target.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    "damage",
    [
        lambda _, target: target.write_bytes(b""),
        half,
        lambda _, target: torch.save({"state_dict": nn.Linear(2, 2)}, target),  # holds code
        lambda _, target: torch.save({"weights": torch.zeros(3)}, target),
    ],
)
def test_a_damaged_file_is_named_and_not_executed(
    damage: Callable[[Path, Path], Any], run: Path, tmp_path: Path
) -> None:
    damage(run / "checkpoints" / "last.ckpt", tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=r"last.ckpt: (cannot be read as a ch|is not a checkpoint)"):
        forger.load(tmp_path / "last.ckpt")


@pytest.mark.parametrize("name", ["config", "image_shape"])
def test_a_checkpoint_without_its_config(name: str, changed: Callable[[Change], Path]) -> None:
    with pytest.raises(UserError, match="does not hold the config of a forger run"):
        forger.load(changed(lambda content: content.pop(name)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("config.model.generator.attention", True),
        ("config.model.generator._target_", "forger.networks.biggan.Generator"),
        ("config.model.generator.width", 8),
        ("config.model.generator", None),
        ("state_dict", {}),
        ("image_shape", [1, 28]),
    ],
)
def test_a_run_of_another_version_is_named(
    key: str, value: Any, changed: Callable[[Change], Path]
) -> None:
    def older(content: dict[str, Any]) -> None:
        content |= {"forger_version": "0.0.7", "commit": "abc123"}
        *groups, name = key.split(".")
        for group in groups:
            content = content[group]
        content[name] = value

    run = changed(older)
    with pytest.raises(UserError) as caught:
        load_run(run)
    message = str(caught.value)
    for part in (str(run), "0.0.7", "abc123", forger.__version__, "What failed: "):
        assert part in message
    assert len(message) < 1000
