"""`compile=true`, as a user meets it: what is told, what is refused, and what may change."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import fit, make_gan
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from own_project import own, write_own
from same import differences
from training import ROOT, command, mistakes, resumed, rows, run_folder, short

from forger import losses as L
from forger.app.config.check import check, find_problems
from forger.app.run.compilation import Compilation, describe_compilation
from forger.app.run.train import train
from forger.callbacks.interrupts import Interrupts
from forger.checkpoints.reading import read_checkpoint
from forger.errors import ConfigError, Interrupted

# torch's compiler looks at it and hides the warning when shown; here it is raised first
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")

Compose = Callable[..., DictConfig]


def refuses(graph: Any, inputs: Any) -> Any:
    raise NotImplementedError("no code for this\nand a page of advice")


def test_the_log_tells_how_long_it_took(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "forger")
    compilation = Compilation(Interrupts(), "eager")
    with compilation.errors_worded():
        fit(make_gan(), tmp_path, callbacks=[compilation])
    told = [r.getMessage() for r in caplog.records if r.name.startswith("forger")]
    assert len(told) == 1
    assert "both networks; the first iteration took" in told[0]


def test_the_plan_tells() -> None:
    assert "under gradient penalties" not in describe_compilation(make_gan())
    assert "but D under gradient penalties" in describe_compilation(make_gan(loss=L.R3GAN()))


class TestRefusals:
    def test_a_network_that_cannot_be_compiled(self, tmp_path: Path) -> None:
        compilation = Compilation(Interrupts(), refuses)
        message = "compile=true: torch cannot compile a network: .*no code for this; write"
        with pytest.raises(ConfigError, match=message), compilation.errors_worded():
            fit(make_gan(), tmp_path, callbacks=[compilation])

    def test_a_double_backward_of_a_networks_own(self, tmp_path: Path) -> None:
        compilation = Compilation(Interrupts(), "aot_eager")
        loss = L.NonSaturating()
        gan = make_gan(loss=loss)
        images = torch.rand(2, 1, 16, 16, requires_grad=True)

        def penalised(*_: Any) -> torch.Tensor:
            logits = gan.discriminator(images).sum()
            (gradient,) = torch.autograd.grad(logits, images, create_graph=True)
            return gradient.square().sum()

        object.__setattr__(loss, "discriminator", penalised)
        with (
            pytest.raises(ConfigError, match=r"compile=true: .*; write"),
            compilation.errors_worded(),
        ):
            fit(gan, tmp_path, callbacks=[compilation])

    def test_ctrl_c_that_ends_the_compiler_too(self, tmp_path: Path) -> None:
        """It is no failure to compile."""
        interrupts = Interrupts()
        interrupts.asked = signal.SIGINT
        compilation = Compilation(interrupts, refuses)
        with pytest.raises(Interrupted) as caught, compilation.errors_worded():
            fit(make_gan(), tmp_path, callbacks=[compilation])
        assert caught.value.cause == "Ctrl-C"

    @pytest.mark.parametrize("error", [RuntimeError("sizes differ"), KeyboardInterrupt()])
    def test_other_errors_stay_as_they_are(self, error: BaseException) -> None:
        compilation = Compilation(Interrupts(), "eager")
        with pytest.raises(type(error)) as caught, compilation.errors_worded():
            raise error
        assert caught.value is error

    def test_a_machine_that_cannot_compile(self) -> None:
        Compilation(Interrupts(), "eager").check(torch.device("cpu"))
        message = "torch cannot compile for cpu here: NotImplementedError: no code for this; mend"
        with pytest.raises(ConfigError, match=message):
            Compilation(Interrupts(), refuses).check(torch.device("cpu"))

    def test_a_machine_without_a_compiler(
        self, composed: Compose, gpus: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gpus(1)
        monkeypatch.setenv("CXX", "nonesuch")
        check(composed("compile=false", "trainer=cpu"))
        check(composed("compile=true", "trainer=gpu"))
        (problem,) = find_problems(composed("compile=true", "trainer=cpu"))
        assert problem.text.startswith("compile=true: there is no C++ compiler nonesuch here")
        assert problem.text.endswith("or write compile=false")
        monkeypatch.setenv("CXX", "python")
        check(composed("compile=true", "trainer=cpu"))


def weights(run: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = read_checkpoint(run / "checkpoints" / "last.ckpt")[
        "state_dict"
    ]
    return state


def config(*words: str) -> DictConfig:
    """A composed config, with Hydra left as it was: checking a resumed run composes too."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", overrides=list(words))


def test_a_run_is_resumed_with_it_and_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "forger.app.run.build.Compilation", partial(Compilation, backend="aot_eager")
    )
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    train(config(*short(cut, "compile=true", "metrics=none")))
    run = run_folder(cut)
    more = ("compile=false", "trainer.max_steps=4")
    assert mistakes(run, *more) == []
    train(resumed(run, *more))
    train(config(*short(whole, "metrics=none", steps=4)))
    for name, value in weights(run_folder(whole)).items():
        torch.testing.assert_close(weights(run)[name], value, rtol=1e-3, atol=1e-5, msg=name)
    assert [row["step"] for row in rows(run)] == ["1", "2", "3", "4"]


@pytest.mark.slow
class TestInductor:
    @pytest.fixture
    def compiling(self, tmp_path: Path) -> Callable[..., Any]:
        """Runs train.py with compilers' files below the test's folder."""
        environment = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")}
        return lambda *words, cwd=ROOT, **more: command(
            *words, cwd=cwd, environment=environment | more
        )

    def test_a_run_that_was_cut_off_ends_with_the_same_bits(
        self, tmp_path: Path, compiling: Callable[..., Any]
    ) -> None:
        words = ["compile=true", "trainer.threads=1", "loss=r3gan", "callbacks.samples.n=70"]
        for folder, steps in (("cut", 2), ("whole", 5)):
            done = compiling(*short(tmp_path / folder, *words, steps=steps))
            assert done.returncode == 0, done.stderr
            assert "compiled        both networks" in done.stderr + done.stdout
        run = run_folder(tmp_path / "cut")
        assert compiling(f"resume={run}", "trainer.max_steps=5").returncode == 0
        assert not differences(weights(run), weights(run_folder(tmp_path / "whole")))

    def test_two_processes(self, tmp_path: Path, compiling: Callable[..., Any]) -> None:
        """Compute what they do without; no batch statistics, which would differ anyway."""
        states = []
        for word in ("compile=false", "compile=true"):
            folder = tmp_path / word.partition("=")[2]
            write_own(folder)
            words = ["model=linear", "data=stripes", "loss=wgan_gp", "trainer=ddp_cpu", word]
            words += ["metrics=none", "trainer.threads=1", "data.batch_size=2"]
            done = compiling(*own(folder, *words), cwd=folder)
            assert done.returncode == 0, done.stderr
            states.append(weights(run_folder(folder)))
        for name, value in states[0].items():
            torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-5, msg=name)

    def test_a_compiler_that_does_not_work(
        self, tmp_path: Path, compiling: Callable[..., Any]
    ) -> None:
        done = compiling(*short(tmp_path, "compile=true"), CXX="false")
        assert done.returncode == 2
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert "compile=true: torch cannot compile for cpu here" in line
        assert "install a C++ compiler" in line
        assert not list((tmp_path / "logs").rglob("status.json"))
        assert "Traceback" not in done.stderr
