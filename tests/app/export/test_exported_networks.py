"""ONNX of every network equals torch, by onnxruntime, whatever the batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from composing import compose_config
from omegaconf import OmegaConf
from torch import Tensor, nn
from training import MODELS, NARROW, TRANSLATORS

from forger.app.export.exportable import Generate, Inputs
from forger.app.export.formats import Onnx, TorchExport
from forger.app.run.load import Run
from forger.app.run.networks import Shapes, build_condition, build_generators
from forger.pictures import to_pixels
from forger.sampling.sampler import Sampler
from forger.sampling.translator import Translator
from forger.tasks.cycle import TwoWay

CLASSES = ("cat", "dog", "ship")
SMALL = {
    **NARROW,
    **{
        f"{name}": ["model.generator.width=4"] for name in ("dcgan", "sndcgan", "sngan", "subpixel")
    },
    "wgan_gp_resnet": ["model.generator.width=4"],
    "vanilla": ["model.generator.hidden=[8]"],
}
HOW = {  # ways of telling G the class
    "none": ["condition=none"],
    "auto": ["condition=label"],
    "concat": ["condition=label", "condition.generator=concat"],
}
FOR_CONCAT = {  # what they ask for beside
    "stylegan2": ["model.generator.style_mixing=0"],
    "biggan": ["model.generator.skip_noise=false"],
}
NOISE = [(model, how) for model in MODELS for how in HOW]
FAST = [("subpixel", "concat"), ("vanilla", "auto")]


def alive(network: nn.Module) -> None:
    """Moves all weights: first ones leave out classes, attention and noise."""
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=random)


def sampler_of(model: str, how: str) -> Sampler:
    words = ["data=mnist_sample", f"model={model}", *SMALL[model], *HOW[how]]
    words += FOR_CONCAT.get(model, []) if how == "concat" else []
    cfg = compose_config("train", *words)
    condition = build_condition(cfg, CLASSES if how != "none" else ())
    generator = build_generators(cfg, Shapes((1, 28, 28)), condition)["generator"]
    alive(generator)
    generator(*((torch.randn(9, generator.latent_dim), torch.arange(9) % 3)[: 1 + (how != "none")]))
    return Sampler(generator, "normal", condition)


def translator_of(model: str, side: int, *words: str) -> Translator:
    cfg = compose_config("train", f"model={model}", "model.generator.width=4", "task=cycle", *words)
    made = build_generators(cfg, Shapes((3, side, side), (1, side, side)), build_condition(cfg, ()))
    network = TwoWay(made["generator"], made["generator_back"])
    alive(network)
    random = torch.Generator().manual_seed(2)
    sides = (torch.randint(0, 256, (5, c, side, side), generator=random) for c in (1, 3))
    return Translator(network, *(one.to(torch.uint8) for one in sides))


def exported(
    kind: type[Onnx] | type[TorchExport], sampler: Sampler, pixels: str, folder: Path
) -> Onnx | TorchExport:
    torch.manual_seed(0)
    run = Run(folder, folder, OmegaConf.create(), (1, 28, 28), None, (), None, 0)
    return kind(OmegaConf.create({"pixels": pixels}), run, sampler)


def is_like_torch(
    sampler: Sampler, folder: Path, kind: type[Onnx] | type[TorchExport] = Onnx
) -> int | None:
    """Exports images in [-1, 1] and compares batches of 1, 2 and 64."""
    format_ = exported(kind, sampler, "unit", folder)
    multiple = format_.write(folder / kind.file)
    generate = format_.read(folder / kind.file)
    for batch in (1, 2, 64):
        inputs: Inputs = sampler.inputs(3, batch, 7, sampler.given(batch, 7))
        with torch.no_grad():
            expected = sampler.generator(*inputs).clamp(-1, 1)
            made = generate(inputs)
        assert made.dtype == torch.float32
        assert made.shape == (batch, *expected.shape[1:])
        assert torch.allclose(made, expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.01, "something is to be seen"
    return multiple


@pytest.mark.parametrize(("model", "how"), FAST)
def test_onnx_of_some(model: str, how: str, tmp_path: Path) -> None:
    assert is_like_torch(sampler_of(model, how), tmp_path) is None


@pytest.mark.slow
@pytest.mark.parametrize(("model", "how"), [one for one in NOISE if one not in FAST])
def test_onnx_of_every_model_and_way_of_telling_the_class(
    model: str, how: str, tmp_path: Path
) -> None:
    assert is_like_torch(sampler_of(model, how), tmp_path) is None


@pytest.mark.slow
def test_onnx_of_truncated_styles(tmp_path: Path) -> None:
    is_like_torch(sampler_of("stylegan2", "auto").truncated(0.5), tmp_path)


TRANSLATED = [  # model, side, words, what sides may be multiples of
    ("simgan", 20, ["model.generator.blocks=1"], 1),
    ("resnet_patchgan", 20, ["model.generator.blocks=1"], 4),
    ("resnet_patchgan", 20, ["model.generator.blocks=1", "model.generator.antialias=true"], 4),
    ("unet_patchgan", 32, ["model.generator.downs=3"], 8),
    ("unet_patchgan", 28, [], None),
]


@pytest.mark.slow
@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize(("model", "side", "words", "multiple"), TRANSLATED)
def test_onnx_of_every_translator_both_ways(
    model: str, side: int, words: list[str], multiple: int | None, back: bool, tmp_path: Path
) -> None:
    sampler = translator_of(model, side, *words)
    assert is_like_torch(sampler.reversed() if back else sampler, tmp_path) == multiple


def test_every_translator_is_tried() -> None:
    assert {model for model, *_ in TRANSLATED} == {*TRANSLATORS}


def test_sources_of_uint8_and_of_any_size(tmp_path: Path) -> None:
    sampler = translator_of("simgan", 20, "model.generator.blocks=1")
    format_ = exported(Onnx, sampler, "uint8", tmp_path)
    path = tmp_path / "x.onnx"
    assert format_.write(path) == 1
    source = torch.randint(0, 256, (2, 1, 13, 30)).to(torch.uint8)
    made = format_.read(path)((source,))
    expected = to_pixels(sampler.translate(source))
    assert made.dtype == torch.uint8
    assert made.shape == (2, 3, 13, 30)
    assert (made.int() - expected.int()).abs().max() <= 1
    assert (made == expected).float().mean() > 0.99
    assert format_.exportable.largest_difference(format_.read(path), 1) < 1e-4


def test_a_program_of_torch_holds_no_pickle(tmp_path: Path) -> None:
    assert is_like_torch(sampler_of("vanilla", "none"), tmp_path, TorchExport) is None
    content = (tmp_path / TorchExport.file).read_bytes()
    assert b"data.pkl" not in content
    assert b"sample_inputs" in content, "which are empty"


def test_the_largest_difference_finds_what_is_wrong(tmp_path: Path) -> None:
    exportable = exported(Onnx, sampler_of("vanilla", "none"), "unit", tmp_path).exportable

    def off_by(amount: float, of: int = 63) -> Generate:
        def generate(inputs: Inputs) -> Tensor:
            images = exportable.wrapped(*inputs).clone()
            last = (inputs[0] == exportable.inputs[0][of]).all(1)
            images[last, 0, 3, 4] += amount
            return images

        return generate

    assert exportable.largest_difference(off_by(0)) == 0
    assert exportable.largest_difference(off_by(5e-5)) == pytest.approx(5e-5, rel=1e-2)
    for wrong in (off_by(2e-4), off_by(float("nan"), 0)):
        with pytest.raises(ValueError, match=r"differ from torch's by .* allowed: 0\.0001"):
            exportable.largest_difference(wrong)
