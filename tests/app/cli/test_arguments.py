"""Settings typed in the way of other tools: each is answered with what to write."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from forger.app.cli.arguments import get_args_parser, read_arguments, read_command
from forger.app.config.compose import find_mistakes

CONFIGS = Path(__file__).parents[3] / "configs"


def mistakes(line: str, script: str = "train") -> list[str]:
    """Returns what is said to a command, its quotes read as by a shell."""
    return find_mistakes(read_command(script, CONFIGS, shlex.split(line), ()).command)


@pytest.mark.parametrize(
    ("line", "messages"),
    [
        # dashes
        (
            "--optimizer.lr=0.001 --seed 3 --name=x",
            [
                "--optimizer.lr=0.001: a setting has no dashes; write optimizer.lr=0.001",
                "--seed 3: a setting has no dashes; write seed=3",
                "--name=x: a setting has no dashes; write name=x",
            ],
        ),
        ("--model dcgan", ["--model dcgan: a setting has no dashes; write model=dcgan"]),
        ("--dry-run", ["--dry-run: a setting has no dashes; write dry_run=true"]),
        ("-seed=3", ["-seed=3: a setting has no dashes; write seed=3"]),
        ("--name 'a b'", ["--name a b: a setting has no dashes; write 'name=a b'"]),
        ("--lr 0.1", ["lr=0.1: is no setting by itself; write optimizer.lr=0.1"]),
        # spaces, colons, quotes, commas
        ("seed = 3", ["seed = 3: write seed=3"]),
        ("'seed = 3'", ["seed = 3: write seed=3"]),
        ("seed= 3", ["seed= 3: write seed=3"]),
        ("seed =3", ["seed =3: write seed=3"]),
        ("seed: 3", ["seed: 3: write seed=3"]),
        ("seed:3 model: dcgan", ["seed:3: write seed=3", "model: dcgan: write model=dcgan"]),
        ("\"'seed=3'\"", ["'seed=3': write seed=3"]),
        ("seed=3, name=x", ["seed=3,: write seed=3"]),
        ("lr = 0.1", ["lr=0.1: is no setting by itself; write optimizer.lr=0.1"]),
        # mappings
        (
            "\"optimizer={'lr': 0.001, 'betas': [0, 0.9]}\"",
            [
                "optimizer={'lr': 0.001, 'betas': [0, 0.9]}: "
                "write optimizer.lr=0.001 'optimizer.betas=[0,0.9]'"
            ],
        ),
        (
            '\'{"seed": 3, "name": "x", "compile": false}\'',
            ['{"seed": 3, "name": "x", "compile": false}: write seed=3 name=x compile=false'],
        ),
        ("\"{'lr': 0.1}\"", ["lr=0.1: is no setting by itself; write optimizer.lr=0.1"]),
        (
            "optimizer={lr:0.1}",
            ["optimizer={lr:0.1}: must name a file; write optimizer.lr=0.1"],
        ),
        # no value
        ("seed", ["seed: has no value; write seed=<value>"]),
    ],
)
def test_what_is_said(line: str, messages: list[str]) -> None:
    assert mistakes(line) == messages


@pytest.mark.parametrize(
    ("word", "instead"),
    [
        ("lr=0.1", "optimizer.lr=0.1"),
        ("learning_rate=0.1", "optimizer.lr=0.1"),
        ("batch_size=8", "data.batch_size=8"),
        ("batchSize=8", "data.batch_size=8"),
        ("steps=5", "trainer.max_steps=5"),
        ("max_steps=5", "trainer.max_steps=5"),
        ("epochs=5", "trainer.max_epochs=5"),
        ("gpus=2", "trainer.devices=2"),
        ("n_critic=5", "loss.n_critic=5"),
        ("latent_dim=64", "model.generator.latent_dim=64"),
        ("model.z_dim=64", "model.generator.latent_dim=64"),
        ("beta1=0.5", "optimizer.betas=<value>, which is [0.5,0.999]"),
        ("fp16=true", "trainer.precision=<value>, which is auto"),
        ("generator.lr=0.1", "optimizer.generator.lr=0.1"),
        ("loss.lr=0.1", "optimizer.lr=0.1"),
        ("trainer.epochs=3", "trainer.max_epochs=3"),
        ("norm=batch", "model.generator.norm=batch or model.discriminator.norm=batch"),
        ("benchmark=true", "+trainer.benchmark=true"),
        ("momentum=0.5", "optimizer=sgd optimizer.momentum=0.5"),
        ("dataset=x", "data=<choice>"),
    ],
)
def test_a_key_whose_setting_lies_deeper(word: str, instead: str) -> None:
    (found,) = mistakes(word)
    assert found.startswith(f"{word}: ")
    assert found.endswith(f"; write {instead}")


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        *((f"logger={none}", "CSV is always on") for none in ("none", "null", "false", "[]", "''")),
        ("logger=[none]", "logger=none: CSV is always on"),
        ("~logger", "CSV is always on"),
        ("metrics=off", "write metrics=none"),
        ("schedule=null", "write schedule=constant"),
        ("callbacks=none", "write callbacks.<name>=null for each"),
        ("experiment=none", "leave it out"),
    ],
)
def test_words_for_nothing(word: str, reason: str) -> None:
    (found,) = mistakes(word)
    assert reason in found


@pytest.mark.parametrize(
    ("line", "flags", "words"),
    [
        ("seed=0,1 -m model=dcgan", ["-m"], ["seed=0,1", "model=dcgan"]),
        ("a=1 --config-dir x b=2 --cfg job", ["--config-dir", "x", "--cfg", "job"], ["a=1", "b=2"]),
        ("--info a=1", ["--info"], ["a=1"]),
        ("--info plugins a=1", ["--info", "plugins"], ["a=1"]),
        ("a=1 -cjob -- b=-1", ["-cjob"], ["a=1", "b=-1"]),
        ("--config-name=x a=1", ["--config-name=x"], ["a=1"]),
        ("--config-dir ~/x -cp=~/y", ["--config-dir", "/me/x", "-cp=/me/y"], []),
    ],
)
def test_flags_may_stand_anywhere(
    line: str, flags: list[str], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/me")
    found = read_arguments(line.split(), get_args_parser())
    assert (found.flags, found.overrides, found.problems) == (flags, words, [])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--run=x", "run=x: there is no such folder or file"),
        ("run = x", "run=x: there is no such folder or file"),
        ("run=x batch=3", "batch=3: unknown setting"),
    ],
)
def test_generate(line: str, message: str) -> None:
    assert any(found.startswith(message) for found in mistakes(line, "generate"))
