from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from labelled_bars import Bars
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from forger.errors import ConfigError, DataError
from forger.metrics import inception
from forger.metrics.inception import URL, Inception

DATA = Bars()


class Unloaded(FeatureExtractorInceptionV3):
    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Loads nothing: there is no other way to build the network without its weights."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random ones, which keep the scale of the activations: they need no download."""
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save({}, path)
    torch.manual_seed(0)
    network = Unloaded("random", ["2048"], str(path))
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def extractor(weights: Path) -> Inception:
    extractor = Inception(weights=weights, layer="192")
    extractor.prepare(DATA, weights.parent)
    return extractor


@pytest.fixture
def empty_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints" / URL.rpartition("/")[2]


def images(channels: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (1, channels, 20, 20), generator=generator)
    return pixels.to(torch.uint8)


def test_sees_what_torch_fidelity_sees(extractor: Inception, weights: Path) -> None:
    theirs = FeatureExtractorInceptionV3("x", ["192", "logits_unbiased"], str(weights))
    features, logits = theirs(images(3))
    seen = extractor(images(3))
    assert seen.features.shape == (1, extractor.num_features)
    assert seen.logits.shape == (1, 1008)
    assert torch.equal(seen.features, features)
    assert torch.equal(seen.logits, logits)
    assert extractor.classes is None
    grey = images(1)  # is colour with equal channels
    assert torch.equal(extractor(grey).features, extractor(grey.repeat(1, 3, 1, 1)).features)


def test_describes_itself(extractor: Inception, weights: Path) -> None:
    assert extractor.description == {
        "name": "inception",
        "fingerprint": extractor.fingerprint,
        "layer": "192",
        "resize": "299x299, bilinear as TensorFlow 1",
        "weights": "random.pth",
    }
    assert extractor.to_do(DATA, weights.parent) is None
    assert (Inception().prefix, extractor.prefix) == ("", "inception192_")
    before = torch.get_rng_state()
    other = Inception(weights=weights, layer="64")
    other.prepare(DATA, weights.parent)
    assert other.fingerprint != extractor.fingerprint
    assert torch.equal(torch.get_rng_state(), before)


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    for first in (Inception(weights=path).to_do, Inception(weights=path).prepare):
        with pytest.raises(ConfigError, match=r"metrics\.inception_weights=.*no such file.*https"):
            first(DATA, tmp_path)
    path.write_text("hello")
    contents: list[Any] = [None, {"a": torch.zeros(1)}, [Path("a")], torch.nn.Linear(1, 1)]
    for content in contents:
        if content is not None:
            torch.save(content, path)
        with pytest.raises(ConfigError, match=r"inception_weights=.*is not torch-fidelity's Inc"):
            Inception(weights=path).prepare(DATA, tmp_path)


def test_without_network_and_file_both_ways_out_are_named(
    empty_hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "urlopen", offline)
    assert "downloaded first" in (Inception().to_do(DATA, empty_hub) or "")
    with pytest.raises(DataError, match="Name or service not known") as refused:
        Inception().prepare(DATA, empty_hub)
    message = str(refused.value)
    assert message.startswith("metrics/features=inception: its weights cannot be downloaded")
    for way_out in (URL, "metrics.inception_weights=<file>", "metrics/features=classifier"):
        assert way_out in message
    assert list(empty_hub.parent.iterdir()) == []


def test_the_download_is_used_again_and_a_damaged_one_is_named(
    empty_hub: Path, weights: Path, extractor: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(url: str, path: str, hash_prefix: str, progress: bool) -> None:
        assert (url, hash_prefix, progress) == (URL, "6726825d", False)
        Path(path).symlink_to(weights)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    for _ in range(2):
        found = Inception(layer="192")
        found.prepare(DATA, empty_hub)
        assert found.fingerprint == extractor.fingerprint
        monkeypatch.setattr(torch.hub, "download_url_to_file", None)
    empty_hub.unlink()
    empty_hub.write_bytes(b"half")
    with pytest.raises(DataError, match=r"6726825d\.pth: is damaged .*delete it"):
        Inception().prepare(DATA, empty_hub)


def test_weights_that_are_not_the_published_ones_are_told(
    weights: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    Inception(weights=weights, layer="64").prepare(DATA, weights.parent)
    assert "is not the published file" in caplog.text
    caplog.clear()
    monkeypatch.setattr(inception, "_SHA256", sha256(weights.read_bytes()).hexdigest()[:8])
    Inception(weights=weights, layer="64").prepare(DATA, weights.parent)
    assert not caplog.records


def test_layers_and_images_that_it_does_not_have_are_refused_at_once(weights: Path) -> None:
    with pytest.raises(ConfigError, match="=512: must be one of 64, 192, 768, 2048"):
        Inception(layer="512")  # type: ignore[arg-type]
    data = Bars()
    data._splits["train"] = {"image": torch.zeros(9, 4, 8, 8, dtype=torch.uint8)}
    for first in (Inception(weights=weights).to_do, Inception(weights=weights).prepare):
        with pytest.raises(DataError, match=r"these have 4 channels; write metrics/features=pix"):
            first(data, weights.parent)
