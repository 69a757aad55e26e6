"""Exports of a run: the files, their examples and cards, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from composing import compose_config
from disks import small_disk
from training import colour_folder, latest, trained

import forger
from forger.app.export import web_runtime
from forger.app.export.export import export
from forger.errors import ConfigError, UserError
from forger.networks import subpixel
from forger.pictures import to_pixels
from forger.whole_files import write_json

Export = Callable[..., Path]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits of a class, of two iterations."""
    words = ["model=subpixel", "condition=label", "model.generator.hidden=8", "model.prior=uniform"]
    return trained(tmp_path_factory.mktemp("digits"), *words, "model.generator.width=4")


@pytest.fixture(scope="module")
def cycle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cycle from grey to colours, of two iterations."""
    folder = tmp_path_factory.mktemp("cycle")
    images = colour_folder(folder / "images")
    words = ["data=grey_to_colour_folder", f"data.root={images}", "data.image_size=16"]
    words += ["task=cycle", "task.lambda_identity=0", "task.pool=4", "loss=least_squares"]
    words += ["model=simgan", "model.generator.width=4", "model.generator.blocks=1"]
    return trained(folder, *words)


@pytest.fixture
def into(run: Path, tmp_path: Path) -> Export:
    """Exports from the run into a folder of the test's own."""

    def exported(*overrides: str, of: Path = run) -> Path:
        words = [f"run={of}", f"output={tmp_path / 'out'}", "format=torch_export", *overrides]
        return export(compose_config("export", *latest(words)))

    return exported


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """What stands for npm's package."""
    dist = tmp_path / "package" / "dist"
    dist.mkdir(parents=True)
    script = "var a=1,b=2;export{a as InferenceSession,b as env};\n//# sourceMappingURL=x.map\n"
    (dist / "ort.wasm.bundle.min.mjs").write_text(script)
    (dist / "ort-wasm-simd-threaded.wasm").write_bytes(b"\0asm")
    return dist.parent


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def record_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "exported.json").read_text())
    return content


def example_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Runs the code of the model card, as somebody would who has the folder alone."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 10
    scope: dict[str, Any] = {}
    monkeypatch.chdir(folder)
    exec(code, scope)
    return scope


def test_onnx_with_its_card(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    scores = {"classifier_fid": 3.5}
    generated = {"count": 10, "weights": "ema", "seed": 0, "checkpoint": "last.ckpt"}
    protocol = {
        **{"extractor": {"name": "<b>x", "fingerprint": "abc"}, "data": {"name": "Mine"}},
        **{"generated": generated | {"iteration": 2}, "floor": {"split": "train", "count": 10}},
        "reference": {"split": "test", "count": 10},
    }
    record = {"scores": scores, "floor": {"classifier_fid": 1.5}, "images": {"floor": 10}}
    write_json(run / "scores.json", {**record, "protocol": protocol})
    output = export(compose_config("export", f"run={run}", "license=cc-by-4.0"))
    assert output == run / "exported" / "onnx_last_ema"
    assert names(output) == ["README.md", "exported.json", "generator.onnx"]
    found = record_of(output)
    assert found["largest_difference"] < 1e-4
    assert [one["shape"] for one in found["inputs"]] == [["batch", 64], ["batch"]]
    assert found["output"]["dtype"] == "uint8"
    assert "differs from torch by" in caplog.text
    _, front, card = (output / "README.md").read_text().split("---\n", 2)
    fields = yaml.safe_load(front)
    assert (fields["license"], fields["library_name"]) == ("cc-by-4.0", "onnx")
    assert fields["datasets"] == ["mnistsample"]
    assert "class-conditional" in fields["tags"]
    assert "| classifier_fid | 3.5 | 1.5 |" in card
    assert "<b>" not in card
    (recipe,) = re.findall(r"```\n(python train.py.*?)```", card, re.DOTALL)
    assert "  model=subpixel\n" in recipe or "overrides" not in card
    assert str(run.parents[1]) not in card, "nobody's folders are anybody's business"
    scope = example_of(output, monkeypatch)
    sampler, inputs = forger.load(run), [scope["noise"], scope["label"]]
    expected = to_pixels(sampler(*map(torch.from_numpy, inputs)))
    assert scope["images"].shape == (16, 1, 28, 28)
    assert abs(scope["images"].astype(int) - expected.numpy().astype(int)).max() <= 1
    write_json(run / "scores.json", {**record, "protocol": {}})
    assert (
        "Not measured"
        in (
            export(compose_config("export", f"run={run}", "format=safetensors")) / "README.md"
        ).read_text()
    )
    (run / "scores.json").unlink()


@pytest.mark.parametrize(
    ("kind", "kilobytes"),
    [("onnx", 16), ("torch_export", 16), ("safetensors", 16), ("html", 16), ("html", 400)],
)
def test_a_full_disk_is_told(
    kind: str, kilobytes: int, into: Export, runtime: Path, tmp_path: Path
) -> None:
    words = [f"web_runtime={runtime}"] if kind == "html" else []
    # On the larger disk the model has its place, and the page, which comes after it, has none.
    (runtime / "dist" / "ort-wasm-simd-threaded.wasm").write_bytes(os.urandom(400_000))
    with small_disk(tmp_path / "disk", kilobytes) as disk:
        with pytest.raises(UserError, match="cannot be written: No space left on device"):
            into(f"format={kind}", f"output={disk / 'out'}", *words)
        assert list(disk.iterdir()) == []


@pytest.mark.parametrize("kind", ["torch_export", "safetensors"])
def test_torch_gets_the_same_images(
    kind: str, run: Path, into: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["pixels=unit"] if kind == "torch_export" else []
    output = into(f"format={kind}", "weights=raw", *words)
    scope = example_of(output, monkeypatch)
    sampler = forger.load(run, weights="raw")
    expected = sampler(scope["noise"], scope["label"])
    assert torch.allclose(scope["images"], expected, atol=1e-6)
    assert record_of(output)["largest_difference"] < 1e-5


def test_a_class_beside_the_noise_is_in_the_code(
    tmp_path: Path, into: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["model=vanilla", "model.generator.hidden=[8]", "condition=label"]
    run = trained(tmp_path, *words, "condition.generator=concat", "condition.label_dim=3")
    scope = example_of(into("format=safetensors", of=run), monkeypatch)
    expected = forger.load(run)(scope["noise"], scope["label"])
    assert torch.equal(scope["images"], expected)


@pytest.mark.parametrize("kind", ["torch_export", "safetensors"])
def test_both_directions_of_a_cycle(
    kind: str, cycle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for direction, channels in (("a_to_b", (1, 3)), ("b_to_a", (3, 1))):
        words = [f"run={cycle}", f"format={kind}", f"direction={direction}"]
        output = export(compose_config("export", *words))
        assert output.name.endswith("_b_to_a") == (direction == "b_to_a")
        scope = example_of(output, monkeypatch)
        assert (scope["source"].shape[1], scope["images"].shape[1]) == channels
        source = record_of(output)["inputs"][0]
        if kind == "torch_export":
            assert source["shape"] == ["batch", channels[0], "rows", "columns"]
            assert source["dtype"] == str(scope["images"].dtype).split(".")[1] == "uint8"


def test_an_export_replaces_an_earlier_one_and_nothing_else(into: Export, tmp_path: Path) -> None:
    output = into()
    assert names(into("format=safetensors")) == [
        "README.md",
        "exported.json",
        "generator.safetensors",
    ]
    (output / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match=r"holds thesis.tex, which export.py did not write"):
        into()
    assert (output / "thesis.tex").read_text() == "precious"
    assert names(tmp_path) == ["out"]


def branching(self: Any, noise: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    sign = -1 if noise.sum() > 0 else 1
    return sign * torch.zeros(noise.shape[0], 1, 28, 28)


def drawing(self: Any, noise: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return torch.rand(noise.shape[0], 1, 28, 28)


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (branching, r"torch.export cannot trace it .* data-dependent"),
        (drawing, r"its images differ from torch's by .* Networks that draw numbers"),
    ],
)
def test_what_cannot_be_exported_is_told_and_leaves_nothing(
    forward: Any, reason: str, into: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subpixel.Generator, "forward", forward)
    message = (
        f"format=torch_export: forger.networks.subpixel.Generator cannot be exported: {reason}"
    )
    with pytest.raises(UserError, match=message):
        into()
    assert names(tmp_path) == []


def test_what_makes_no_sense_of_a_run_is_refused(cycle: Path, into: Export, tmp_path: Path) -> None:
    for words, of, message in (
        (["direction=b_to_a"], None, "direction=b_to_a: the run translates no images"),
        (["truncation=0.5"], None, "truncation=0.5: is for generators with styles"),
        (["format=html"], cycle, "format=html: shows what is made of noise"),
    ):
        with pytest.raises(ConfigError, match=message):
            into(*words, **({"of": of} if of else {}))
    assert names(tmp_path) == []


def test_a_link_that_leads_out_of_a_run_is_refused(cycle: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (cycle / "exported").mkdir(exist_ok=True)
    link = cycle / "exported" / "onnx_last_ema"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link to"):
        export(compose_config("export", f"run={cycle}"))
    link.unlink()


def test_a_page_holds_all_it_needs_and_lets_no_request_out(
    run: Path, into: Export, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = into("format=html", f"web_runtime={runtime}")
    assert names(output) == ["README.md", "exported.json", "index.html"]
    page = (output / "index.html").read_text()
    (script,) = re.findall(r'<script type="module">(.*?)</script>', page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', page)
    assert policy.startswith("default-src 'none'; ")
    assert f"script-src 'sha256-{digest}' 'wasm-unsafe-eval'" in policy
    assert "const ort = {InferenceSession: a, env: b};" in script
    assert "sourceMappingURL" not in page
    assert "{{" not in page.replace(script, "")
    assert re.findall(r"https?://|src=|@import", page) == []
    (settings,) = re.findall(r'id="settings">(.*?)</script>', page)
    directions = torch.tensor(json.loads(settings)["directions"])
    assert directions.shape == (6, 64)
    assert torch.allclose(directions.norm(dim=1), torch.ones(6))
    scope = example_of(output, monkeypatch)
    assert json.loads((output / "noise.json").read_text())["label"] == scope["label"].tolist()


def npm(folder: Path, script: str) -> None:
    """Puts a program in the place of npm."""
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(0o755)


def test_what_runs_in_the_browser_is_fetched_once_and_known_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools, cache, find = tmp_path / "bin", tmp_path / "cache", web_runtime.find_web_runtime
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(UserError, match=r"there is no npm; install Node.js, or write web_runtime="):
        find(None, cache)
    monkeypatch.setenv("PATH", f"{tools}:{os.defpath}")
    npm(tools, "echo no network >&2; exit 1")
    with pytest.raises(UserError, match=r"npm cannot fetch onnxruntime-web: no network; try again"):
        find(None, cache)
    npm(
        tools,
        "printf 'npm error code E1\\nnpm error nospc no space left\\n' >&2; touch $4/a.tgz; exit 1",
    )
    with pytest.raises(UserError, match=r"npm cannot fetch onnxruntime-web: nospc no space left;"):
        find(None, cache)
    package = tmp_path / "x.tgz"
    os.system(
        f"mkdir -p {tmp_path}/package/dist; cd {tmp_path}; for f in ort.wasm.bundle.min.mjs"
        " ort-wasm-simd-threaded.wasm; do echo 1 > package/dist/$f; done; tar czf x.tgz package"
    )
    npm(tools, f'[ "$1" = pack ] && cp {package} "$4"')
    with pytest.raises(UserError, match="is not the one that this version of forger knows"):
        find(None, cache)
    assert not cache.exists()
    digest = hashlib.sha512(package.read_bytes()).digest()
    monkeypatch.setattr(web_runtime, "INTEGRITY", base64.b64encode(digest).decode())
    assert find(None, cache).wasm == b"1\n"
    npm(tools, "exit 1")
    assert find(None, cache).script == "1\n", "npm is not asked again"
    next(cache.iterdir()).write_bytes(b"damaged")
    with pytest.raises(UserError, match="npm cannot fetch"):
        find(None, cache)
    with pytest.raises(UserError, match=r"web_runtime=.*: holds no ort.wasm.bundle.min.mjs"):
        find(str(tools), cache)
