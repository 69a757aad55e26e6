"""Runs with texts: trained, resumed, dry, generated from and exported by the commands' own code."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from composing import compose_config
from PIL import Image
from training import captioned_images, latest, resumed, short

from forger.app.export.exportable import make_exportable
from forger.app.run.evaluate import evaluate
from forger.app.run.generate import generate
from forger.app.run.load import load, load_run
from forger.app.run.train import train
from forger.errors import ConfigError, UserError

TEXT = ["model=dfgan", "condition=text", "loss=hinge", "loss.matching=2", "text.dim=8"]
SMALL = ["model.generator.width=4", "model.discriminator.width=4", "metrics=none", "report=false"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in two colours, which their captions name."""
    return captioned_images(tmp_path_factory.mktemp("captioned") / "images")


def words(images: Path, folder: Path, *overrides: str, steps: int = 4) -> list[str]:
    data = ["data=captioned_folder", f"data.root={images}", "data.image_size=8"]
    return latest([*short(folder, *TEXT, *SMALL, steps=steps), *data, *overrides])


def trained(images: Path, folder: Path, *overrides: str, steps: int = 4) -> Path:
    train(compose_config("train", *words(images, folder, *overrides, steps=steps)))
    (run,) = (folder / "logs").glob("*/*")
    return run


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(images, tmp_path_factory.mktemp("run"))


def generated(run: Path, *overrides: str) -> tuple[Path, dict[str, Any]]:
    folder = generate(compose_config("generate", f"run={run}", *overrides))
    return folder, json.loads((folder / "generated.json").read_text())


def test_a_loaded_run_knows_its_words_and_held_out_captions(run: Path) -> None:
    sampler = load(run)
    assert set(sampler.condition.encoder.vocabulary.words) >= {"red", "blue", "square", ","}
    assert sampler.condition.prompts
    assert len(sampler.condition.prompts) == 4  # of forty images, a tenth
    one = sampler.sample(2, seed=3, text="a red square")
    assert one.shape == (2, 3, 8, 8)
    assert not torch.equal(one, sampler.sample(2, seed=3, text="a blue square"))
    whole = load_run(run).gan
    assert torch.equal(whole.task.sampler(whole.ema_generator.module).sample(3), sampler.sample(3))


def test_a_killed_run_goes_on_to_the_same_bits(images: Path, tmp_path: Path) -> None:
    whole = load_run(trained(images, tmp_path / "whole", steps=8)).gan.state_dict()
    run = trained(images, tmp_path / "two", "callbacks.checkpoint.every_n_steps=1", steps=5)
    train(resumed(run, "trainer.max_steps=8"))
    found = load_run(run).gan.state_dict()
    assert whole.keys() == found.keys()
    assert all(torch.equal(one, found[name]) for name, one in whole.items())


def test_stages_train_and_sample_and_are_exported_as_their_last(
    images: Path, tmp_path: Path
) -> None:
    staged = ["model=stackgan", "task=stages", "loss=non_saturating", "model.stages=2"]
    typed = latest([*words(images, tmp_path, steps=2), *staged, "data.image_size=16"])
    metrics = train(compose_config("train", *(one for one in typed if "matching" not in one)))
    assert {"train/kl", "train/d_mismatched"} <= metrics.keys()
    assert all(map(math.isfinite, metrics.values()))
    (run,) = (tmp_path / "logs").glob("*/*")
    sampler = load(run)
    one = sampler.sample(2, seed=3, text="a red square")
    assert one.shape == (2, 3, 16, 16)
    assert not torch.equal(one, sampler.sample(2, seed=3, text="a blue square"))
    found = make_exportable(sampler, "unit")
    assert [tuple(each.shape[1:]) for each in found.inputs] == [(100,), (8,)]
    assert found.largest_difference(lambda inputs: found.wrapped(*inputs)) < 1e-5


def test_images_of_texts_are_written_with_what_they_are_of(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a blue square\n\n  red, as number 3\n")
    folder, record = generated(run, "text=a red square", f"text_file={file}", "n=3")
    texts = ["a red square", "a blue square", "red, as number 3"]
    assert (record["texts"], record["n"]) == (texts, 3)
    assert len(list((folder / "images").iterdir())) == 9
    sampler = load(run)
    each = [text for text in texts for _ in range(3)]
    pixels = sampler.chunk(0, 9, 0, {"text": sampler.condition.rows_of(each)})["image"]
    for number, image in enumerate(pixels):
        stored = Image.open(folder / "images" / f"{number:06d}.png")
        assert torch.equal(
            torch.frombuffer(bytearray(stored.tobytes()), dtype=torch.uint8)
            .view(8, 8, 3)
            .permute(2, 0, 1),
            image,
        )


def test_without_a_text_held_out_captions_are_shown(run: Path, tmp_path: Path) -> None:
    _, record = generated(run, f"output={tmp_path / 'out'}")
    assert record["texts"] == list(load(run).condition.prompts)
    assert record["n"] == 8


def test_a_walk_goes_from_text_to_text_of_the_same_noise(run: Path, tmp_path: Path) -> None:
    texts = '["a red square","a blue square"]'
    folder, _ = generated(run, f"walk.texts={texts}", "frames=3", f"output={tmp_path / 'out'}")
    with Image.open(folder / "walk.gif") as film:
        assert film.n_frames == 6  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["text=zork"], "text='zork': has no word of the training captions"),
        (["text=' '"], "text: is empty"),
        (["label=red"], "label=red: the run was trained without labels"),
    ],
)
def test_texts_that_mean_nothing_are_refused(
    run: Path, tmp_path: Path, overrides: list[str], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        generated(run, *overrides, f"output={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()


def test_a_dry_run_tells_the_text_and_writes_nothing(
    images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    train(compose_config("train", *words(images, tmp_path, "dry_run=true")))
    assert "texts of 8 numbers (Learned)" in caplog.text
    assert "80 captions, such as" in caplog.text
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["model=dcgan"], r"condition=text: forger\.networks\.dcgan\.Generator takes no text_dim"),
        (["data=mnist_sample", "loss.matching=0"], r"forger\.data\.MNISTSample has no captions"),
        (["condition=none"], r"loss\.matching=2: is for condition=text"),
        (["text.dim=0"], r"text\.dim=0: must be"),
        (
            ["model=stackgan", "model.stages=1"],
            r"made in stages, of which FromNoise judges one; wr",
        ),
        (["task=stages", "loss.matching=0"], r"task=stages: needs networks .*write model=stackgan"),
        (["task=stages"], r"loss\.matching=2: Stages does not add this term"),
    ],
)
def test_what_does_not_fit_is_refused(
    images: Path, tmp_path: Path, overrides: list[str], told: str
) -> None:
    typed = [one for one in words(images, tmp_path) if not one.startswith("data.root")]
    if "data=mnist_sample" not in overrides:
        typed.append(f"data.root={images}")
    else:
        typed = [one for one in typed if not one.startswith("data.image_size")]
    with pytest.raises(ConfigError, match=told):
        train(compose_config("train", *latest([*typed, *overrides])))
    assert not (tmp_path / "logs").exists()


def test_a_run_of_a_pretrained_encoder_is_rebuilt_and_keeps_nothing(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = [one for one in words(images, tmp_path) if one != "text.dim=8"]
    for module in ("app.config.rules", "text.pretrained"):
        monkeypatch.setattr(f"forger.{module}.find_spec", lambda name: True)
    monkeypatch.setattr(
        "forger.text.Sentence.embed",
        lambda self, texts: torch.tensor([[len(one) + 0.5] * 512 for one in texts]),
    )
    train(compose_config("train", *latest([*typed, "text=sentence"])))
    (run,) = (tmp_path / "logs").glob("*/*")
    sampler = load(run)
    assert sampler.condition.text_dim == 512
    assert sampler.condition.encoder.cache_dir is None
    assert not torch.equal(sampler.sample(1, text="a"), sampler.sample(1, text="abcdef"))


def test_an_evaluation_tells_the_r_precision_and_its_floor(run: Path, tmp_path: Path) -> None:
    small = ["precision_k=1", "coverage_k=1", "kid_subset_size=2", "num_fake=4", "splits=1"]
    typed = [f"run={run}", f"paths.cache_dir={tmp_path}", "metrics/features=pixels", "device=cpu"]
    (record,) = evaluate(compose_config("evaluate", *typed, *(f"metrics.{one}" for one in small)))
    found, floor = record["scores"]["r_precision"], record["floor"]["r_precision"]
    assert {found * 4, floor * 4} <= {0, 1, 2, 3, 4}
    assert record["protocol"]["text_matcher"]["accuracy"] == floor
    assert list(tmp_path.glob("matcher-*.pt"))


def test_changed_captions_are_no_resume(images: Path, tmp_path: Path) -> None:
    own = tmp_path / "images"
    own.mkdir()
    for file in images.iterdir():
        (own / file.name).write_bytes(file.read_bytes())
    run = trained(own, tmp_path)
    rows = (own / "metadata.jsonl").read_text()
    (own / "metadata.jsonl").write_text(rows.replace("a red square", "a green square"))
    with pytest.raises(UserError, match="images"):
        train(resumed(run, "trainer.max_steps=9"))


def test_what_is_exported_takes_embeddings(run: Path) -> None:
    found = make_exportable(load(run), "unit")
    assert found.names == ("noise", "text")
    assert [tuple(one.shape[1:]) for one in found.inputs] == [(100,), (8,)]
    assert found.largest_difference(lambda inputs: found.wrapped(*inputs)) < 1e-5
