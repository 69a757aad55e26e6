"""Settings typed in the way of other tools: each is answered with what to write."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from forger.app.cli.arguments import read_command
from forger.app.config.compose import find_mistakes
from forger.errors import ConfigError

CONFIGS = Path(__file__).parents[3] / "configs"


def mistakes(line: str, script: str = "train") -> list[str]:
    """Returns what is said to a command, its quotes read as by a shell."""
    return find_mistakes(read_command(script, CONFIGS, shlex.split(line), ()).command)


@pytest.mark.parametrize(
    ("line", "messages"),
    [
        (
            "--optimizer.lr=0.001 --seed 3 --name=x",
            [
                "--optimizer.lr=0.001: write optimizer.lr=0.001",
                "--seed 3: write seed=3",
                "--name=x: write name=x",
            ],
        ),
        ("--model dcgan -m", ["--model dcgan: write model=dcgan"]),
        ("--dry-run", ["--dry-run: write dry_run=true"]),
        ("--name 'a-b c'", ["--name a-b c: write 'name=a-b c'"]),
        ("seed = 3", ["seed = 3: write seed=3"]),
        ("seed: 3 model: dcgan", ["seed: 3: write seed=3", "model: dcgan: write model=dcgan"]),
        (
            "--sede -1",
            [
                "--sede -1: write sede=-1",
                "sede=-1: unknown setting; did you mean 'seed'? Allowed: data, debug, experiment, "
                "loss, model, moved, name, objective, resume, schedule, seed, sweep and 17 more",
            ],
        ),
        ("optimizer={lr:0.1}", ["optimizer={lr:0.1}: must name a file; write optimizer.lr=0.1"]),
        ("seed", ["seed: has no value; write seed=<value>"]),
    ],
)
def test_what_is_said(line: str, messages: list[str]) -> None:
    assert mistakes(line) == messages


@pytest.mark.parametrize(
    ("override", "instead"),
    [
        ("lr=0.1", "optimizer.lr=0.1"),
        ("learning_rate=0.1", "optimizer.lr=0.1"),
        ("batchSize=8", "data.batch_size=8"),
        ("steps=5", "trainer.max_steps=5"),
        ("epochs=5", "trainer.max_epochs=5"),
        ("gpus=2", "trainer.devices=2"),
        ("n_critic=5", "loss.n_critic=5"),
        ("model.z_dim=64", "model.generator.latent_dim=64"),
        ("beta1=0.5", "optimizer.betas=<value>"),
        ("generator.lr=0.1", "optimizer.generator.lr=0.1"),
        ("trainer.epochs=3", "trainer.max_epochs=3"),
        ("norm=batch", "model.generator.norm=batch or model.discriminator.norm=batch"),
    ],
)
def test_a_key_whose_setting_lies_deeper(override: str, instead: str) -> None:
    assert mistakes(override) == [f"{override}: unknown setting; write {instead}"]


@pytest.mark.parametrize(
    ("line", "flags", "overrides", "shows"),
    [
        ("seed=0,1 -m model=dcgan", [], ["seed=0,1", "model=dcgan"], False),
        ("a=1 --config-dir x b=2 --cfg job", ["--config-dir", "x"], ["a=1", "b=2"], True),
        ("--info plugins a=1", [], ["a=1"], True),
        ("a=1 -cjob b=-1", [], ["a=1", "b=-1"], True),
        ("--config-name=x a=1", ["--config-name", "x"], ["a=1"], False),
        ("--config-dir=~/x", ["--config-dir", "/me/x"], [], False),
    ],
)
def test_flags_may_stand_anywhere(
    line: str,
    flags: list[str],
    overrides: list[str],
    shows: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/me")
    typed = read_command("train", CONFIGS, line.split(), ())
    command = typed.command
    assert (list(command.config_flags), list(command.overrides)) == (flags, overrides)
    assert (command.misspelt, command.multirun, typed.only_shows) == ((), "-m" in line, shows)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--run=x", "run=x: there is no such folder or file"),
        ("run = x", "run=x: there is no such folder or file"),
        ("run=x batch=3", "batch=3: unknown setting"),
        (str(CONFIGS), f"{CONFIGS}: is not a setting; write run={CONFIGS}"),
        ("run=x hydra.mode=MULTIRUN", "-m: generate.py runs once; call it again for another run"),
    ],
)
def test_generate(line: str, message: str) -> None:
    assert any(found.startswith(message) for found in mistakes(line, "generate"))


def test_a_pickle_is_not_read() -> None:
    with pytest.raises(ConfigError, match=r"--experimental-rerun: .* write resume=<run folder>"):
        read_command("train", CONFIGS, ["--experimental-rerun", "x.pickle"], ())
